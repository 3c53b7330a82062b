-- table.* and ipairs of values whose metamethods are functions, tables or nothing, at random: the same reads, writes
-- and calls in the same order, the same results, the same errors.
local state = 7
local function random(k) state = (state * 1103515245 + 12345) % 2147483648 return (state // 65536) % k + 1 end
local sum, log = 0, {}
local function note(...)
  for i = 1, select("#", ...) do
    local text = tostring((select(i, ...))):gsub("0x%x+", "")
    log[#log + 1] = text
    for at = 1, #text do sum = (sum * 31 + text:byte(at)) % 1000000007 end
  end
end

local values = {1, 2.5, "a", "text", "7", 3, 1e300, ""}
local function store()
  local t = {}
  for i = 1, random(8) - 1 do t[i] = values[random(#values)] end
  if random(20) == 1 then t[random(9)] = random(2) == 1 and {} or nil end
  return t
end

-- What a function of the library may be given as a list.
local function list(depth)
  local kind = random(8)
  local inner = store()
  if kind <= 2 then return inner end
  if kind == 3 and depth < 3 then
    local parent = list(depth + 1)
    if type(parent) == "table" then return setmetatable(inner, {__index = parent, __newindex = parent}) end
  end
  local at = {}
  if random(4) ~= 1 then
    at.__index = function(_, key)
      note("read", key)
      if random(300) == 1 then error("in read") end
      return rawget(inner, key)
    end
  end
  if random(4) ~= 1 then
    at.__newindex = function(_, key, value) note("write", key, value) rawset(inner, key, value) end
  end
  if random(3) ~= 1 then
    local length = ({#inner, #inner, #inner, #inner + 0.0, #inner + 0.5, "3", "x", -1})[random(8)]
    at.__len = function() note("length") return length end
  end
  if random(3) == 1 then
    local equal = random(2) == 1
    at.__eq = function() note("equal") return equal end
  end
  if random(30) == 1 then at.__len = setmetatable({}, {__call = function() note("called") return 2 end}) end
  return setmetatable(random(2) == 1 and inner or {}, at)
end

local odd = {"x", 2.5, "2", 2.0, {}, true}
local function place()
  local kind = random(30)
  if kind == 1 then return odd[random(#odd)] end
  if kind == 2 then return nil end
  return random(11) - 2
end

local calls = {}
function calls.insert(t)
  if random(2) == 1 then return table.insert(t, "new") end
  return table.insert(t, place(), "new")
end
function calls.remove(t)
  if random(2) == 1 then return table.remove(t) end
  return table.remove(t, place())
end
function calls.concat(t) return table.concat(t, values[random(#values)], place(), place()) end
function calls.unpack(t)
  local from = place()
  local to = math.type(from) == "integer" and from > -9 and from < 20 and from + random(12) - 2 or random(9)
  return table.unpack(t, from, random(3) ~= 1 and to or nil)
end
function calls.move(t)
  local to = random(2) == 1 and list(1) or nil
  local result = table.move(t, place(), place(), place(), to)
  note("to", rawequal(result, t), rawequal(result, to))
end
function calls.ipairs(t)
  for i, value in ipairs(t) do
    note(i, value)
    if i > 20 then break end
  end
end
local names = {"insert", "remove", "concat", "unpack", "move", "ipairs"}

for round = 1, 10000 do
  local t = list(1)
  for _ = 1, random(3) do
    local name = names[random(#names)]
    note(name, pcall(calls[name], t))
  end
  for key = -1, 12 do note(rawget(t, key)) end
  if round % 100 == 0 then
    print(round, sum, table.concat(log, " ", math.max(1, #log - 40)))
    log = {}
  end
end
