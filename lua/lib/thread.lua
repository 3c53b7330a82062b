-- The module `evlua.thread`: functions that run in other Lua states, over evlua.thread.native.
local bad_argument = require "evlua.bad_argument"
local bad_type = require "evlua.bad_type"
local native = require "evlua.thread.native"
local evlua = require "evlua"
local sync = require "evlua.sync"
local bracket = require("evlua.task").bracket
-- Errors shall name functions as users know them.
package.loaded["evlua.thread.native"], package.loaded["evlua.task"] = nil, nil
local call, pack = native.call, native.pack

local thread = {
  channel = native.channel,
  select = native.select,
  workers = native.workers,
}

local function run_module(name, ...)
  local f = require(name)
  if type(f) ~= "function" then
    error(("module '%s' returns a %s; a function to run is expected"):format(name, type(f)), 0)
  end
  return f(...)
end

local function check_runnable(position, ...)
  local f = select(position, ...)
  if type(f) ~= "function" and type(f) ~= "string" then bad_type(position, "function or module name", 2, ...) end
end

-- A function and its arguments, as one value that another state can take.
local function packed(f, ...)
  if type(f) == "string" then return pack(run_module, f, ...) end
  return pack(f, ...)
end

function thread.run(...)
  check_runnable(1, ...)
  return call(nil, (packed(...)))
end
function thread.spawn(...)
  check_runnable(1, ...)
  return evlua.spawn(call, nil, (packed(...)))
end

local Pool = {}
Pool.__index = Pool
Pool.__name = "thread pool"

function thread.pool(size)
  if size == nil then size = native.workers() end
  if math.type(size) ~= "integer" or size < 1 or size > 1024 then
    bad_argument(1, "number from 1 to 1024 expected")
  end
  -- Between tasks of this state: to take a place out needs no memory, so none is lost.
  local pool = setmetatable({free = sync.channel(size), states = {}}, Pool)
  for i = 1, size do
    pool.states[i] = native.state()
    pool.free:send(i)
  end
  return pool
end

local function check_pool(pool, name)
  if getmetatable(pool) == Pool then return end
  error(("calling '%s' on bad self (thread pool expected, got %s)"):format(name, type(pool)), 3)
end

local function closed_failure() return nil, "the pool is closed", "EBADF" end

-- `closed` makes what is returned when the pool is closed.
local function call_in(pool, message, closed)
  local entered = false
  local function enter(state)
    entered = true
    if pool.free:closed() then return closed() end
    return call(pool.states[state], message)
  end
  local function told(...)
    if not entered and pool.free:closed() then return closed() end
    return ...
  end
  return told(bracket(pool.free, pool.free.receive, native.give_back, true, enter))
end

function Pool:run(...)
  check_pool(self, "run")
  check_runnable(1, ...)
  return call_in(self, packed(...), closed_failure)
end

function Pool:spawn(...)
  check_pool(self, "spawn")
  check_runnable(1, ...)
  return evlua.spawn(call_in, self, packed(...), closed_failure)
end

function Pool:map(...)
  check_pool(self, "map")
  local list, f = ...
  if type(list) ~= "table" then bad_type(1, "table", 1, ...) end
  check_runnable(2, ...)
  local is_closed = self.free:closed()
  if is_closed then return closed_failure() end
  local function note() is_closed = true end
  local results = evlua.map(list, function(value, i) return call_in(self, packed(f, value, i), note) end,
    {concurrency = #self.states})
  if is_closed then return closed_failure() end
  return results
end

function Pool:size()
  check_pool(self, "size")
  return #self.states
end

function Pool:close()
  check_pool(self, "close")
  self.free:close()
end

return thread
