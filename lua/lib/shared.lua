-- The module `evlua.shared`: dictionaries, locks and metrics of evlua.shared.native, and what is built of them.
local native = require "evlua.shared.native"
package.loaded["evlua.shared.native"] = nil  -- errors shall name functions as users know them
local bracket = require("evlua.task").bracket

local shared = {
  dict = native.dict,
  lock = native.lock,
  counter = native.counter,
  histogram = native.histogram,
}

local function check_function(value, position, name)
  if type(value) ~= "function" then
    error(("bad argument #%d to '%s' (function expected, got %s)"):format(position, name, type(value)), 3)
  end
end

local function check_name(name, what)
  if type(name) == "number" then name = tostring(name) end
  if type(name) ~= "string" or name == "" then
    local got = name == "" and 'a name expected, got ""' or "string expected, got " .. type(name)
    error(("bad argument #1 to '%s' (%s)"):format(what, got), 3)
  end
end

function shared.with_lock(name, f, ...)
  check_name(name, "with_lock")
  check_function(f, 2, "with_lock")
  return bracket(name, native.lock, native.unlock, false, f, ...)
end

-- What once has computed. Not a word of it may be lost.
local results = native.dict("evlua.once", {bytes = 64 << 20, evict = false})

local function compute(name, f, ...)
  local value = results:get(name)
  if value ~= nil then return value end
  value = f(...)
  if value == nil then value = true end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(("the function of once returned a %s; string, number, boolean or nil expected"):format(kind), 0)
  end
  assert(results:set(name, value))
  return value
end

function shared.once(name, f, ...)
  check_name(name, "once")
  check_function(f, 2, "once")
  local value = results:get(name)
  if value ~= nil then return value end
  return shared.with_lock("evlua.once " .. name, compute, name, f, ...)
end

return shared
