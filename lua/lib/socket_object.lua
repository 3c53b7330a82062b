-- What all sockets of LuaSocket have over ours: classes, timeouts, waits, names, options. A socket is a userdata of
-- evlua.compat.native with a table, its state.
local native = require "evlua.compat.native"
local state_of, wait, set_class = native.state, native.wait, debug.setmetatable
local now = require("evlua").now

local object = {}

-- Raises where the program has called us.
local function bad_argument(position, name, what)
  local level = 2
  local info = debug.getinfo(level, "S")
  while info and info.short_src:find("^%[evlua ") do
    level = level + 1
    info = debug.getinfo(level, "S")
  end
  if debug.getinfo(level - 1, "n").namewhat == "method" then position = position - 1 end
  if position == 0 then error(("calling '%s' on bad self (%s)"):format(name, what), level) end
  error(("bad argument #%d to '%s' (%s)"):format(position, name, what), level)
end
object.bad_argument = bad_argument

-- Arguments as luaL_check* take them.
function object.check_string(value, position, name)
  if type(value) == "string" then return value end
  if type(value) == "number" then return tostring(value) end
  return bad_argument(position, name, "string expected, got " .. (value == nil and "no value" or type(value)))
end
function object.check_number(value, position, name)
  local number = tonumber(value)
  if number then return number end
  return bad_argument(position, name, "number expected, got " .. (value == nil and "no value" or type(value)))
end
-- Rounded down to what C's int holds; what is no number counts as the least.
function object.check_int(value, position, name, least)
  local number = object.check_number(value, position, name)
  return math.floor(math.min(math.max(least or -2^31, number), 2^31 - 1))
end
-- As luaL_checkinteger, of which C's int keeps the lower half.
function object.check_whole(value, position, name)
  local number = object.check_number(value, position, name)
  local whole = math.tointeger(number)
  if not whole then bad_argument(position, name, "number has no integer representation") end
  return ((whole + (1 << 31)) & 0xffffffff) - (1 << 31)
end
-- As C makes a long of a double: towards zero, and the least one where there is none.
function object.check_long(value, position, name)
  local number = object.check_number(value, position, name) + 0.0
  if not (number >= -2^63 and number < 2^63) then return math.mininteger end
  return math.tointeger(number < 0 and math.ceil(number) or math.floor(number))
end

-- The classes of a kind: names in braces, all with the methods of the kind.
--   kind: {name = "tcp", options = "stream"}; classes: {"master", "client"}
function object.define(kind, classes, methods)
  for _, short in ipairs(classes) do
    local name = ("%s{%s}"):format(kind.name, short)
    local index = {class = name}
    for method, f in pairs(methods) do index[method] = f end
    kind[short] = {name = name, meta = native.class(name, index)}
  end
end

-- A socket of that kind and class without a descriptor.
function object.new_state(kind, class)
  return {
    kind = kind, class = class, block = -1.0, total = -1.0,
    buffer = "", at = 1, received = 0, sent = 0, born = now(),
  }
end
function object.new(kind, class)
  return native.make(class.meta, object.new_state(kind, class))
end

-- Opens a descriptor of that family, unless there is one.
function object.open(self, state, family)
  if native.descriptor(self) >= 0 and (not state.family or state.family == family) then return true end
  local done, message = native.open(self, family, state.kind.is_datagram)
  if done then state.family = family end
  return done, message
end

-- A socket of that kind and class; with a family: with a descriptor.
function object.create(kind, class, family)
  local self = object.new(kind, class)
  if family then
    local done, message = object.open(self, native.state(self), family)
    if not done then return nil, message end
  end
  return self
end

function object.become(self, state, class)
  state.class = class
  set_class(self, class.meta)
end

-- The state of `self`, which must be of that kind, and of that class if one is given.
function object.check(self, kind, class, name)
  local state = state_of(self)
  if state and state.kind == kind and (not class or state.class == class) then return state end
  return bad_argument(1, name, (class and class.name or kind.name .. "{any}") .. " expected")
end

-- -- time ----------------------------------------------------------------------------------------------------------

-- Seconds until the call that has begun at `start` must be over, or nil. What is no number is 0: max and min keep the
-- first of two that do not compare.
local function time_left(state, start)
  local block, total = state.block, state.total
  if total < 0 then
    if block < 0 then return nil end
    return math.max(0, block - (now() - start))
  end
  local left = math.max(0, total - (now() - start))
  if block < 0 then return left end
  return math.min(left, block)
end

-- Waits until a call that has given "again" is worth another try: true, or nil and LuaSocket's message.
function object.await(self, state, for_writing, start)
  if state.block == 0 then return nil, "timeout" end
  local ready, message, code = wait(self, for_writing, time_left(state, start))
  if ready then return true end
  if code == "ETIMEDOUT" then return nil, "timeout" end
  return nil, message
end

-- -- methods that all have -----------------------------------------------------------------------------------------

-- Adds them to `methods`. `kind` is filled in by `define`, later.
function object.add_common(methods, kind)
  local function check(self, name) return object.check(self, kind, nil, name) end

  function methods:settimeout(seconds, mode)
    local state = check(self, "settimeout")
    local value = seconds == nil and -1.0 or object.check_number(seconds, 2, "settimeout") + 0.0
    local letter = mode == nil and "b" or object.check_string(mode, 3, "settimeout"):sub(1, 1)
    if letter == "b" then
      state.block = value
    elseif letter == "r" or letter == "t" then
      state.total = value
    else
      bad_argument(3, "settimeout", "invalid timeout mode")
    end
    return 1.0
  end
  function methods:gettimeout()
    local state = check(self, "gettimeout")
    return state.block, state.total
  end
  function methods:close()
    check(self, "close").closes = true  -- what another task is about to open it for
    native.close(self)
    return 1.0
  end
  function methods:getfd()
    check(self, "getfd")
    return native.descriptor(self) + 0.0
  end
  function methods:setfd(fd)
    check(self, "setfd")
    native.set_descriptor(self, object.check_int(fd, 2, "setfd", -1))
  end
  function methods:dirty()
    local state = check(self, "dirty")
    return state.at <= #state.buffer
  end
  function methods:setoption(name, value)
    check(self, "setoption")
    local done, message = native.set_option(self, kind.options, object.check_string(name, 2, "setoption"), value)
    if not done then return nil, message end
    return done  -- no tail call: who has called must be found
  end
  function methods:getsockname()
    check(self, "getsockname")
    local host, port, family = native.name(self, false)
    if not family then return host, port end
    return host, tostring(port), family  -- a string, as LuaSocket has it here, and not for the peer
  end
end

-- Adds what the sockets of the internet have in common. A peer is known to those of the class `kind[peer_class]`, or,
-- without one, to all.
function object.add_internet(methods, kind, peer_class)
  function methods:getpeername()
    object.check(self, kind, kind[peer_class], "getpeername")
    return native.name(self, true)
  end
  function methods:getfamily()
    return object.check(self, kind, nil, "getfamily").family == "inet6" and "inet6" or "inet4"
  end
  function methods:getoption(name)
    object.check(self, kind, nil, "getoption")
    local value, message = native.get_option(self, kind.options, object.check_string(name, 2, "getoption"))
    if message then return nil, message end
    return value
  end
end

return object
