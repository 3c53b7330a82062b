-- The module `evlua.shared`: dictionaries, locks and metrics of evlua.shared.native, and what is built of them.
local native = require "evlua.shared.native"
package.loaded["evlua.shared.native"] = nil  -- errors shall name functions as users know them
local trail = require("evlua.task").trail

local shared = {
  dict = native.dict,
  lock = native.lock,
  counter = native.counter,
  histogram = native.histogram,
}

local function keep_traceback(value)
  trail(value, debug.traceback(tostring(value), 2))
  return value
end

local function check_function(value, position, name)
  if type(value) ~= "function" then
    error(("bad argument #%d to '%s' (function expected, got %s)"):format(position, name, type(value)), 3)
  end
end

local function unlock_after(lock, ok, ...)
  lock:unlock()
  if not ok then error((...), 0) end
  return ...
end

function shared.with_lock(name, f, ...)
  check_function(f, 2, "with_lock")
  local lock, message, code = native.lock(name)
  if not lock then return nil, message, code end
  return unlock_after(lock, xpcall(f, keep_traceback, ...))
end

-- What once has computed. Not a word of it may be lost.
local results = native.dict("evlua.once", {bytes = 64 << 20, evict = false})

local function compute(name, f, ...)
  local value = results:get(name)
  if value ~= nil then return value end
  value = f(...)
  if value == nil then value = true end
  assert(results:set(name, value))
  return value
end

function shared.once(name, f, ...)
  check_function(f, 2, "once")
  local value = results:get(name)
  if value ~= nil then return value end
  return shared.with_lock("evlua.once " .. name, compute, name, f, ...)
end

return shared
