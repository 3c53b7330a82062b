-- The assertions of evlua.test: a table that is called as `assert` is, and whose functions tell what they wanted.
local bad_argument = require "evlua.bad_argument"
local inspect = require "evlua.inspect"
local key_text, quote = inspect.key, inspect.quote
local rawequal, select, tostring, type = rawequal, select, tostring, type

local DIFFERENCES = 20  -- that are shown

local assertions = {}

-- At the position of the assertion's caller.
local function fail(message, text)
  if message ~= nil then text = tostring(message) .. "\n" .. text end
  error(text, 3)
end

-- A short value stands in the line.
local function shown(value)
  local text = inspect.value(value, "  ")
  return #text > 60 and "\n  " .. text or " " .. text
end

-- -- differences ------------------------------------------------------------------------------------------------------

local function excerpt(text, from)
  local start = math.max(1, from - 20)
  return (start > 1 and "..." or "") .. quote(text:sub(start, from + 40)) .. (from + 40 < #text and "..." or "")
end

-- Two long texts: the first line, or the first byte, in which they differ.
local function text_difference(expected, actual)
  local at = 1
  while expected:byte(at) == actual:byte(at) do at = at + 1 end
  if expected:find("\n", 1, true) or actual:find("\n", 1, true) then
    local line, start = 1, 1
    for newline in expected:sub(1, at - 1):gmatch("()\n") do line, start = line + 1, newline + 1 end
    local function line_of(text) return text:match("^[^\n]*", start) end
    return ("line %d: expected %s, got %s"):format(line, excerpt(line_of(expected), at - start + 1),
      excerpt(line_of(actual), at - start + 1))
  end
  return ("from byte %d: expected %s, got %s"):format(at, excerpt(expected, at), excerpt(actual, at))
end

local function difference(expected, actual)
  if type(expected) == "string" and type(actual) == "string" and
      (#expected > 60 or #actual > 60 or (expected .. actual):find("\n", 1, true)) then
    return text_difference(expected, actual)
  end
  local a, b = inspect.value(expected, "    "), inspect.value(actual, "    ")
  if a == b then a, b = a .. (" (a %s)"):format(type(expected)), b .. " (another one)" end
  return ("expected %s, got %s"):format(a, b)
end

local function both_tables(a, b) return type(a) == "table" and type(b) == "table" end

local function same_value(a, b)
  if a == b then return true end  -- by __eq, too
  return a ~= a and b ~= b and type(a) == "number" and type(b) == "number"
end

-- Appends {path, what} to `out` for each place where the two differ.
local function compare(expected, actual, path, seen, out)
  if same_value(expected, actual) or #out > DIFFERENCES then return end
  if not both_tables(expected, actual) then
    out[#out + 1] = {path, difference(expected, actual)}
    return
  end
  local partners = seen[expected] or {}
  seen[expected] = partners
  if partners[actual] then return end
  partners[actual] = true
  local keys = {}
  for key in next, expected do keys[#keys + 1] = key end
  for key in next, actual do
    if rawget(expected, key) == nil then keys[#keys + 1] = key end
  end
  table.sort(keys, inspect.in_order)
  for _, key in ipairs(keys) do
    local name = key_text(key)
    name = path .. (name:sub(1, 1) == "[" and name or "." .. name)
    compare(rawget(expected, key), rawget(actual, key), name, seen, out)
  end
end

local function differences(expected, actual)
  local out = {}
  compare(expected, actual, "", {}, out)
  return out
end

local function describe(list)
  if #list == 1 and list[1][1] == "" then return list[1][2] end
  local lines = {}
  for i, place in ipairs(list) do
    lines[i] = i > DIFFERENCES and "  ... and more" or ("  at %s: %s"):format(place[1], place[2])
  end
  return "the values differ:\n" .. table.concat(lines, "\n")
end

-- -- values -----------------------------------------------------------------------------------------------------------

function assertions.equal(expected, actual, message)
  if expected == actual then return actual end
  local hint = both_tables(expected, actual) and " (compare contents with assert.same)" or ""
  fail(message, difference(expected, actual) .. hint)
end

function assertions.not_equal(unexpected, actual, message)
  if unexpected ~= actual then return actual end
  fail(message, "expected anything but" .. shown(unexpected))
end

function assertions.same(expected, actual, message)
  local found = differences(expected, actual)
  if #found > 0 then fail(message, describe(found)) end
  return actual
end

function assertions.not_same(unexpected, actual, message)
  if #differences(unexpected, actual) == 0 then fail(message, "expected anything but" .. shown(unexpected)) end
  return actual
end

function assertions.near(expected, actual, tolerance, message)
  if type(actual) == "number" and math.abs(expected - actual) <= tolerance then return actual end
  fail(message, ("expected %s, give or take %s, got %s"):format(expected, tolerance, inspect.value(actual)))
end

function assertions.truthy(value, message)
  if not value then fail(message, "expected a true value, got " .. tostring(value)) end
  return value
end

function assertions.falsy(value, message)
  if value then fail(message, "expected false or nil, got" .. shown(value)) end
  return value
end

function assertions.is_nil(value, message)
  if value ~= nil then fail(message, "expected nil, got" .. shown(value)) end
end

function assertions.is_type(expected, value, message)
  if type(value) == expected or math.type(value) == expected then return value end
  fail(message, ("expected a %s, got %s"):format(expected, inspect.value(value)))
end

function assertions.match(pattern, text, message)
  if type(text) == "string" and text:find(pattern) then return text end
  fail(message, ("nothing matches %s in"):format(quote(pattern)) .. shown(text))
end

function assertions.no_match(pattern, text, message)
  if type(text) == "string" and not text:find(pattern) then return text end
  fail(message, ("something matches %s in"):format(quote(pattern)) .. shown(text))
end

function assertions.contains(part, whole, message)
  if type(whole) == "string" then
    if whole:find(part, 1, true) then return whole end
  elseif type(whole) == "table" then
    for _, value in next, whole do
      if #differences(part, value) == 0 then return whole end
    end
  end
  fail(message, ("expected to find %s in"):format(inspect.value(part)) .. shown(whole))
end

-- -- failures ---------------------------------------------------------------------------------------------------------

-- An expected text is a part of the message, anything else is the same as the error value.
function assertions.error(f, expected, message)
  local ok, value = pcall(f)
  if ok then fail(message, "expected an error" .. (expected ~= nil and shown(expected) or "")) end
  if expected == nil then return value end
  if type(expected) == "string" then
    local text = tostring(value)
    if not text:find(expected, 1, true) then
      fail(message, "expected an error with" .. shown(expected) .. ", got" .. shown(text))
    end
  else
    local found = differences(expected, value)
    if #found > 0 then fail(message, "another error than expected: " .. describe(found)) end
  end
  return value
end

function assertions.no_error(f, message)
  local results = table.pack(pcall(f))
  if not results[1] then fail(message, "unexpected error:" .. shown(results[2])) end
  return table.unpack(results, 2, results.n)
end

-- What an operation returns that has failed: nil, a message, a code.
function assertions.fails(code, value, text, got)
  if value == nil and got == code then return text end
  if value == nil then
    fail(nil, ("expected the code %s, got %s: %s"):format(inspect.value(code), inspect.value(got), tostring(text)))
  end
  fail(nil, ("expected a failure with %s, got"):format(inspect.value(code)) .. shown(value))
end

-- -- spies ------------------------------------------------------------------------------------------------------------

local calls_of = setmetatable({}, {__mode = "k"})  -- of functions that spy made

local function recorded(spy)
  local calls = type(spy) == "function" and calls_of[spy]
  if not calls then error("a spy expected", 3) end
  return calls
end

local function list_calls(calls)
  if #calls == 0 then return "it was not called" end
  local lines = {}
  for i, call in ipairs(calls) do
    local values = {}
    for v = 1, call.n do values[v] = inspect.value(call[v], "    ") end
    lines[i] = ("  call %d: (%s)"):format(i, table.concat(values, ", "))
    if i == DIFFERENCES and i < #calls then
      lines[i + 1] = "  ..."
      break
    end
  end
  return "it was called with\n" .. table.concat(lines, "\n")
end

function assertions.called(spy, times, message)
  local calls = recorded(spy)
  if times == nil then
    if #calls == 0 then fail(message, "expected a call, there was none") end
  elseif #calls ~= times then
    fail(message, ("expected %d calls, there were %d"):format(times, #calls))
  end
  return calls
end

function assertions.called_with(spy, ...)
  local calls = recorded(spy)
  local wanted = table.pack(...)
  for _, call in ipairs(calls) do
    local values = table.pack(table.unpack(call, 1, call.n))
    if #differences(wanted, values) == 0 then return call end
  end
  local values = {}
  for i = 1, wanted.n do values[i] = inspect.value(wanted[i], "  ") end
  fail(nil, ("expected a call with (%s); %s"):format(table.concat(values, ", "), list_calls(calls)))
end

-- -- the table --------------------------------------------------------------------------------------------------------

-- As stock `assert`.
local function call(_, ...)
  if (...) then return ... end
  if select("#", ...) == 0 then bad_argument(1, "value expected") end
  if select("#", ...) == 1 then error("assertion failed!", 0) end
  error((select(2, ...)), 0)
end

local function unknown(_, name) error(("there is no assertion '%s'"):format(tostring(name)), 2) end

return {
  assert = setmetatable(assertions, {__call = call, __index = unknown}),
  calls_of = calls_of,
}
