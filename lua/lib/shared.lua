-- The module `evlua.shared`: dictionaries, locks and metrics of evlua.shared.native, and what is built of them.
local bad_argument = require "evlua.bad_argument"
local native = require "evlua.shared.native"
local bracket = require("evlua.task").bracket
-- Errors shall name functions as users know them.
package.loaded["evlua.shared.native"], package.loaded["evlua.task"] = nil, nil

local shared = {
  dict = native.dict,
  lock = native.lock,
  counter = native.counter,
  histogram = native.histogram,
}

local function check_function(value, position)
  if type(value) ~= "function" then
    bad_argument(position, ("function expected, got %s"):format(type(value)), 2)
  end
end

local function check_name(name)
  if type(name) == "number" then name = tostring(name) end
  if type(name) ~= "string" or name == "" then
    local got = name == "" and 'a name expected, got ""' or "string expected, got " .. type(name)
    bad_argument(1, got, 2)
  end
end

function shared.with_lock(name, f, ...)
  check_name(name)
  check_function(f, 2)
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
  check_name(name)
  check_function(f, 2)
  local value = results:get(name)
  if value ~= nil then return value end
  return shared.with_lock("evlua.once " .. name, compute, name, f, ...)
end

return shared
