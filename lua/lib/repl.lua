-- evlua at a terminal: reads, runs, shows. Returns a function of {native, perform, steps} -> exit code. Without
-- `native`, which is what it needs of a terminal, it reads lines of standard input.
local task = require "evlua.task"
package.loaded["evlua.task"] = nil
local evlua, inspect = require "evlua", require "evlua.inspect"
local complete = require("evlua.complete").complete

local PLENTY = 1e9  -- seconds of the processor: there is a limit so that it can be used up

local function show_error(value)
  local message = value
  if type(value) ~= "string" then
    local meta = debug.getmetatable(value)
    message = type(meta) == "table" and meta.__tostring and tostring(value) or "error value: " .. inspect.value(value)
  end
  local lines = {message}
  for line in debug.traceback("", 2):gmatch("\n\t([^\n]*)") do
    if line:find("[evlua", 1, true) then break end
    if not line:find("^%[C%]: in function 'error'") then lines[#lines + 1] = "\t" .. line end
  end
  if lines[2] then table.insert(lines, 2, "stack traceback:") end
  return table.concat(lines, "\n")
end

local function show_results(results)
  local texts, long = {}, false
  for i = 1, results.n do
    texts[i] = inspect.value(results[i])
    long = long or texts[i]:find("\n", 1, true)
  end
  if results.n > 0 then io.stdout:write(table.concat(texts, long and "\n" or "\t"), "\n") end
end

-- Runs it as a task of its own, so that it can be ended.
local function run(native, chunk)
  local good, message
  local running = task.spawn(function()
    good, message = xpcall(function() show_results(table.pack(chunk())) end, show_error)
  end)
  running:name("prompt")
  task.limit_cpu(running, PLENTY)
  native.run(running)
  running:wait()
  local interrupted = native.has_run()
  io.stdout:flush()
  if interrupted or good == nil then
    io.stderr:write("\ninterrupted\n")
  elseif not good then
    io.stderr:write(tostring(message), "\n")
  end
end

-- The chunk; or nil, a message, and whether more lines could make it whole.
local function compile(text)
  text = text:gsub("^%s*=", "return ", 1)
  local chunk = load("return " .. text, "=stdin", "t")
  if chunk then return chunk end
  local message
  chunk, message = load(text, "=stdin", "t")
  return chunk, message, not chunk and message:find("<eof>$") ~= nil
end

-- The next chunk, "again" when there is nothing to run, or nil at the end.
local function read_chunk(native)
  local text
  while true do
    local kind, line = native.read_line(text and ">> " or "> ")
    if kind == "interrupted" then return "again" end
    if kind ~= "text" then return nil end
    if not text and not line:find("%S") then return "again" end
    text = text and text .. "\n" .. line or line
    local chunk, message, incomplete = compile(text)
    if chunk then return chunk end
    if not incomplete then
      io.stderr:write(message, "\n")
      return "again"
    end
  end
end

local plain = {}

function plain.read_line(prompt)
  io.stdout:write(prompt)
  io.stdout:flush()
  local line = io.stdin:read("l")
  if line then return "text", line end
  io.stdout:write("\n")
  return "end"
end

function plain.run() end
function plain.has_run() end

local function take_turn(native)
  io.stdout:flush()
  io.stderr:flush()
  local chunk = read_chunk(native)
  if not chunk then os.exit(0) end
  if chunk ~= "again" then run(native, chunk) end
end

return function(options)
  local native = options.native and options.native() or plain
  io.stdout:write(options.banner[1], native ~= plain and ", Ctrl-D leaves\n" or "\n")
  options.perform(options.steps)
  if native ~= plain then
    native.begin(complete)
    evlua.on_signal("SIGCONT", native.refresh)
    evlua.on_signal("SIGWINCH", native.refresh)
  end
  while true do
    local good, message = pcall(take_turn, native)
    if not good then io.stderr:write(tostring(message), "\n") end  -- of a finalizer that has run here
  end
end
