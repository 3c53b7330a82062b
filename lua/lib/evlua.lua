-- The module `evlua`: structured concurrency over the primitives of evlua.task.
local bad_argument = require "evlua.bad_argument"
local bad_type = require "evlua.bad_type"
local task = require "evlua.task"
package.loaded["evlua.task"] = nil  -- errors shall name functions as users know them: evlua.sleep

local evlua = {
  spawn = task.spawn,
  sleep = task.sleep,
  yield = task.yield,
  atomic = task.atomic,
  now = task.now,
  time = task.time,
  exit = task.exit,
  on_signal = task.on_signal,
  stats = task.stats,
  tasks = task.tasks,
  locals = task.locals,
  defer = task.defer,
  random_bytes = task.random_bytes,
  version = task.version,
}

local function check_function(position, ...)
  if type((select(position, ...))) ~= "function" then bad_type(position, "function", 2, ...) end
end

local function check_functions(...)
  local list = ...
  if type(list) ~= "table" then bad_type(1, "table of functions", 2, ...) end
  for i = 1, #list do
    if type(list[i]) ~= "function" then
      bad_argument(1, ("element %d: function expected, got %s"):format(i, type(list[i])), 2)
    end
  end
end

-- The tail of every structured wait: a task that failed raises here; a cancelled waiter gets its failure.
local function settle(group, seconds)
  local decisive, message, code = group:wait(seconds)
  group:close()
  if decisive == nil then return nil, message, code end
  return true, decisive
end

local Scope = {}
Scope.__index = Scope
Scope.__name = "scope"
function Scope:spawn(...)
  check_function(1, ...)
  return self.group:spawn(...)
end
function Scope:cancel() self.group:cancel() end
function Scope:size()
  local status = self.main and self.main:status() or "running"  -- none yet: a slice was over right after the spawn
  local body = (status == "running" or status == "waiting") and 1 or 0
  return self.group:size() - body
end

function evlua.scope(...)
  check_function(1, ...)
  local group = task.group()
  local scope = setmetatable({group = group}, Scope)
  local body = ...
  local main = group:spawn(body, scope, select(2, ...))
  scope.main = main
  local ok, decisive, code = settle(group)
  if not ok then return nil, decisive, code end
  if decisive then decisive:join() end
  return main:join()
end

function evlua.all(...)
  check_functions(...)
  local functions = ...
  local group, tasks = task.group(), {}
  for i = 1, #functions do tasks[i] = group:spawn(functions[i]) end
  if #tasks == 0 then return end
  local ok, decisive, code = settle(group)
  if not ok then return nil, decisive, code end
  if decisive then decisive:join() end
  local results = {}
  for i = 1, #tasks do results[i] = (tasks[i]:join()) end
  return table.unpack(results, 1, #tasks)
end

function evlua.race(...)
  check_functions(...)
  local functions = ...
  if #functions == 0 then bad_argument(1, "at least one function expected") end
  local group = task.group("race")
  local first = group:spawn(functions[1])
  for i = 2, #functions do group:spawn(functions[i]) end
  local ok, decisive, code = settle(group)
  if not ok then return nil, decisive, code end
  return (decisive or first):join()
end

local function check_seconds(options, name)
  local value = options[name]
  if value ~= nil and (type(value) ~= "number" or not (value > 0)) then
    bad_argument(1, ("option '%s': seconds above 0 expected"):format(name), 2)
  end
  return value
end

function evlua.limit(...)
  local options = ...
  if type(options) ~= "table" then bad_type(1, "table", 1, ...) end
  for key in pairs(options) do
    if key ~= "cpu" and key ~= "time" then
      bad_argument(1, ("unknown option '%s'"):format(tostring(key)))
    end
  end
  local cpu, time = check_seconds(options, "cpu"), check_seconds(options, "time")
  check_function(2, ...)
  local group = task.group()
  local main = group:spawn(select(2, ...))
  if cpu then task.limit_cpu(main, cpu) end
  if time then task.limit_time(main, time) end
  local ok, decisive, code = settle(group, time)
  if not ok then return nil, decisive, code end
  return main:join()
end

function evlua.timeout(...)
  local seconds = ...
  if type(seconds) ~= "number" then bad_type(1, "number", 1, ...) end
  if seconds ~= seconds then bad_argument(1, "not a number") end
  check_function(2, ...)
  local group = task.group()
  local main = group:spawn(select(2, ...))
  local ok, decisive, code = settle(group, seconds)
  if not ok then return nil, decisive, code end
  return main:join()
end

function evlua.map(...)
  local list, f, options = ...
  if type(list) ~= "table" then bad_type(1, "table", 1, ...) end
  check_function(2, ...)
  local concurrency = 8
  if options ~= nil then
    if type(options) ~= "table" then
      bad_argument(3, ("table expected, got %s"):format(type(options)))
    end
    for key in pairs(options) do
      if key ~= "concurrency" then
        bad_argument(3, ("unknown option '%s'"):format(tostring(key)))
      end
    end
    concurrency = options.concurrency or concurrency
    if math.type(concurrency) ~= "integer" or concurrency < 1 then
      bad_argument(3, "option 'concurrency': positive integer expected")
    end
  end
  local count, next_index, results = #list, 1, {}
  local group = task.group()
  for _ = 1, math.min(concurrency, count) do
    group:spawn(function()
      while next_index <= count do
        local index = next_index
        next_index = index + 1
        results[index] = f(list[index], index)
      end
    end)
  end
  if count == 0 then return results end
  local ok, decisive, code = settle(group)
  if not ok then return nil, decisive, code end
  if decisive then decisive:join() end
  return results
end

-- By read and write, for what is neither a stream nor a file. The code of an end is that of streams, or none where
-- the object is one of Lua's own.
local function copy_pieces(from, to, left, state)
  while left > 0 do
    local piece, message, code = from:read(math.min(left, 65536))
    if piece == nil then
      if message == nil or code == "EOF" then return state.moved end
      return nil, message, code, state.moved
    end
    state.rest = piece
    local written
    written, message, code = to:write(piece)
    if not written then return nil, message, code, state.moved, piece end
    state.rest = nil
    state.moved, left = state.moved + #piece, left - #piece
  end
  return state.moved
end

local function check_end(position, method, ...)
  local value = select(position, ...)
  local kind = type(value)
  local found = kind == "userdata" or kind == "table"
  if found then found = type(value[method]) == "function" end
  if not found then
    bad_type(position, ("a stream, a file or an object with the method '%s'"):format(method), 2, ...)
  end
end

local function check_pipe_options(options)
  if type(options) ~= "table" then
    bad_argument(3, ("table expected, got %s"):format(type(options)), 2)
  end
  for key in pairs(options) do
    if key ~= "count" and key ~= "timeout" then
      bad_argument(3, ("unknown option '%s'"):format(tostring(key)), 2)
    end
  end
  local count, timeout = options.count, options.timeout
  if count ~= nil and (math.type(count) ~= "integer" or count < 0) then
    bad_argument(3, "option 'count': an integer of at least 0 expected", 2)
  end
  if timeout ~= nil and (type(timeout) ~= "number" or timeout ~= timeout) then
    bad_argument(3, "option 'timeout': a number expected", 2)
  end
  return count, timeout
end

function evlua.pipe(...)
  check_end(1, "read", ...)
  check_end(2, "write", ...)
  local from, to, options = ...
  local count, timeout
  if options ~= nil then count, timeout = check_pipe_options(options) end
  local moved, message, code, before = task.pipe(from, to, count, timeout)
  if moved ~= false then
    if moved then return moved end
    return nil, message, code, before
  end
  local state = {moved = 0}
  if not timeout then return copy_pieces(from, to, count or math.maxinteger, state) end
  local results = table.pack(evlua.timeout(timeout, copy_pieces, from, to, count or math.maxinteger, state))
  if results[1] == nil and results.n == 3 then return nil, results[2], results[3], state.moved, state.rest end
  return table.unpack(results, 1, results.n)
end

function evlua.every(...)
  local seconds, f = ...
  if type(seconds) ~= "number" or not (seconds > 0) then  -- NaN is neither
    bad_argument(1, "positive number of seconds expected")
  end
  check_function(2, ...)
  return task.spawn(function()
    local due = task.now()
    while true do
      -- Measured from the start, so that the period does not drift by what f takes.
      due = math.max(due + seconds, task.now())
      if not task.sleep(due - task.now()) then return end
      f()
    end
  end)
end

return evlua
