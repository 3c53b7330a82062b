-- For values whose metamethods are functions: what functions of stock Lua do in C, where nothing can wait. The C side
-- comes here only for such values; lua/lib_table.cpp has the rest.
local select, setmetatable, type = select, setmetatable, type
local tointeger, maxinteger = math.tointeger, math.maxinteger

local waiting = {}

function waiting.index(t, key) return t[key] end

-- The iterator of ipairs.
function waiting.next_index(t, i)
  i = i + 1
  local value = t[i]
  if value == nil then return nil end
  return i, value
end

-- Those of `table` return true and the results; or false and what the stock function is called with.

-- Of that length and nothing else.
local function stand_in(length) return setmetatable({}, {__len = function() return length end}) end

-- What luaL_optinteger makes of an argument; nil if it raises.
local function integer_or(value, otherwise)
  if value == nil then return otherwise end
  return tointeger(value)
end

function waiting.insert(t, ...)
  local length = #t
  local size = tointeger(length)
  local count = select("#", ...)
  if size and count == 1 then
    t[size + 1] = (...)
    return true
  end
  local place, value = ...
  local at = count == 2 and tointeger(place)
  if not size or not at or at < 1 or at > size + 1 then return false, stand_in(length), ... end
  for i = size + 1, at + 1, -1 do t[i] = t[i - 1] end
  t[at] = value
  return true
end

function waiting.remove(t, ...)
  local length = #t
  local size = tointeger(length)
  local at = size and integer_or((...), size)
  if not at or at ~= size and (at < 1 or at > size + 1) then return false, stand_in(length), ... end
  local removed = t[at]
  while at < size do
    t[at] = t[at + 1]
    at = at + 1
  end
  t[at] = nil
  return true, removed
end

function waiting.move(from, ...)
  local first, last, place, to = ...
  local f, e, t = tointeger(first), tointeger(last), tointeger(place)
  if to == nil then to = from end
  if not (f and e and t) then return false, from, ... end
  if e < f then return true, to end
  if f <= 0 and e >= maxinteger + f or t > maxinteger - (e - f) then return false, from, ... end
  if t > e or t <= f or to ~= from then
    for i = 0, e - f do to[t + i] = from[f + i] end
  else
    for i = e - f, 0, -1 do to[t + i] = from[f + i] end
  end
  return true, to
end

function waiting.concat(t, ...)
  local length = #t
  local separator, first, last = ...
  local i, j = integer_or(first, 1), integer_or(last, tointeger(length))
  if not i or not j then return false, stand_in(length), ... end
  local copy = {}
  for k = 0, j - i do  -- a loop to the largest integer would have no end
    local value = t[i + k]
    copy[i + k] = value
    if type(value) ~= "string" and type(value) ~= "number" then break end  -- where the stock function raises
  end
  return false, copy, separator, i, j
end

-- More results than any stack has room for; the stock function says so.
local TOO_MANY = 1000000

function waiting.unpack(t, ...)
  local first, last = ...
  local i, j = integer_or(first, 1), nil
  if last == nil then
    local length = #t
    j = tointeger(length)
    if not j then return false, stand_in(length), ... end
  else
    j = tointeger(last)
  end
  local copy = {}
  if not i or not j then return false, copy, ... end
  if j - i < TOO_MANY then
    for k = 0, j - i do copy[i + k] = t[i + k] end
  end
  return false, copy, i, j
end

return waiting
