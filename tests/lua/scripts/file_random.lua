-- evlua.fs: random reads, writes, seeks and cuts of files, with timeouts and cancellations, against a model in memory.
-- A script: it takes its first seed as an argument.
local evlua, fs = require "evlua", require "evlua.fs"

local ROUNDS, STEPS = 30, 200
local first_seed = tonumber((...)) or 20261124
local random = math.random

local function some_bytes()
  local size = random() < 0.05 and random(50000, 200000) or random(0, 300)
  return ("abc\ndefgh\n\nij"):rep(size // 12 + 1):sub(random(1, 9)):sub(1, size)
end

local Model = {}
Model.__index = Model
function Model:put(at, bytes)
  if bytes == "" then return end
  local content = self.content .. ("\0"):rep(at - #self.content)
  self.content = content:sub(1, at) .. bytes .. content:sub(at + #bytes + 1)
end

-- Each step does the same to the file and to the model, and compares. The file is open with "r+" or "a+".
local steps = {}
function steps.read(file, model)
  local count = random(1, 70000)
  local got, message, code = file:read(count)
  if not got then
    assert(code == "EOF", message)
    return assert(model.at >= #model.content)
  end
  assert(#got >= 1 and #got <= count and got == model.content:sub(model.at + 1, model.at + #got))
  model.at = model.at + #got
end
function steps.line(file, model)
  local format = random() < 0.5 and "l" or "L"
  local got, message, code = file:read(format)
  if not got then
    assert(code == "EOF", message)
    return assert(model.at >= #model.content)
  end
  local line = model.content:match("^[^\n]*\n?", model.at + 1)
  assert(got == (format == "l" and line:gsub("\n", "") or line))
  model.at = model.at + #line
end
function steps.all(file, model)
  assert(file:read("a") == model.content:sub(model.at + 1))
  model.at = math.max(model.at, #model.content)
end
function steps.lines(file, model)
  local most = random(1, 5)
  for line in file:lines() do
    assert(line == model.content:match("^[^\n]*", model.at + 1))
    model.at = math.min(model.at + #line + 1, #model.content)
    most = most - 1
    if most == 0 then break end
  end
end
function steps.read_at(file, model)
  local count, offset = random(1, 3000), random(0, #model.content + 10)
  local got, message, code = file:read_at(count, offset)
  if got then assert(got == model.content:sub(offset + 1, offset + #got) and #got >= 1)
  else assert(code == "EOF" and offset >= #model.content, message) end
end
function steps.write(file, model)
  local bytes = some_bytes()
  assert(file:write(bytes))
  if model.appends and bytes ~= "" then model.at = #model.content end
  model:put(model.at, bytes)
  model.at = model.at + #bytes
end
function steps.write_at(file, model)
  if model.appends then return end
  local bytes, offset = some_bytes(), random(0, #model.content + 10)
  assert(file:write_at(bytes, offset))
  model:put(offset, bytes)
end
function steps.seek(file, model)
  local whence = ({"set", "cur", "end"})[random(1, 3)]
  local base = whence == "set" and 0 or whence == "cur" and model.at or #model.content
  local target = random(0, #model.content + 5)
  assert(file:seek(whence, target - base) == target)
  model.at = target
  assert(file:seek() == target)
end
function steps.truncate(file, model)
  if random() < 0.7 then return end
  local size = random(0, #model.content + 20)
  assert(file:truncate(size))
  model.content = model.content:sub(1, size) .. ("\0"):rep(size - #model.content)
end
function steps.stat(file, model) assert(file:stat().size == #model.content) end
function steps.whole(_, model) assert(fs.read(model.path) == model.content) end
-- A read that is cancelled either has moved the position and gives what it read, or has not moved it.
function steps.cancelled(file, model)
  local task = evlua.spawn(function() return file:read(random() < 0.5 and "l" or 100) end)
  if random() < 0.5 then evlua.yield() end
  task:cancel()
  local got, message, code = task:join()
  local at = file:seek()
  if got then
    local passed = model.content:sub(model.at + 1, at)
    assert(passed == got or passed == got .. "\n")
  else
    assert((code == "ECANCELED" or code == "EOF") and at == model.at, message)
  end
  model.at = at
end

local names = {}
for name in pairs(steps) do names[#names + 1] = name end
table.sort(names)

local function run(path)
  local model = setmetatable({path = path, content = some_bytes(), at = 0, appends = random() < 0.3}, Model)
  assert(fs.write(path, model.content))
  local file = assert(fs.open(path, model.appends and "a+" or "r+"))
  for _ = 1, STEPS do
    local name = names[random(#names)]
    local ok, trouble = xpcall(steps[name], debug.traceback, file, model)
    if not ok then error(name .. ": " .. trouble, 0) end
  end
  assert(file:close())
  assert(fs.read(path) == model.content)
end

local path = os.tmpname()
for seed = first_seed, first_seed + ROUNDS - 1 do
  math.randomseed(seed)
  local ok, trouble = pcall(run, path)
  if not ok then error(("seed %d: %s"):format(seed, trouble), 0) end
end
assert(fs.remove(path))
