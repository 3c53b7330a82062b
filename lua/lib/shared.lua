-- The module `evlua.shared`: dictionaries, locks and metrics of evlua.shared.native, and what is built of them.
local bad_argument = require "evlua.bad_argument"
local bad_type = require "evlua.bad_type"
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

local function check(...)
  local name, f = ...
  if type(name) ~= "string" and type(name) ~= "number" then bad_type(1, "string", 2, ...) end
  if name == "" then bad_argument(1, 'a name expected, got ""', 2) end
  if type(f) ~= "function" then bad_type(2, "function", 2, ...) end
end

function shared.with_lock(...)
  check(...)
  local name = ...
  return bracket(name, native.lock, native.unlock, false, select(2, ...))
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

function shared.once(...)
  check(...)
  local name = ...
  local value = results:get(name)
  if value ~= nil then return value end
  return shared.with_lock("evlua.once " .. name, compute, ...)
end

return shared
