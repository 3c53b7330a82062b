-- LuaSocket's UDP objects over ours, and what they share with datagrams over Unix-domain sockets.
local native = require "evlua.compat.native"
local object = require "evlua.compat.object"
local names = require "evlua.compat.names"
local now = require("evlua").now
local check_string = object.check_string

local udp = {_DATAGRAMSIZE = 8192}
local kind = {name = "udp", options = "datagram", is_datagram = true}
local methods = {}

-- Repeats call(self, ...) until it need not wait any more.
local function repeated(self, state, for_writing, call, ...)
  local start = now()
  while true do
    local first, second, third = call(self, ...)
    if first then return first, second, third end
    if second == "again" then
      local ready
      ready, second = object.await(self, state, for_writing, start)
      if ready then second = nil end
    end
    if second then return nil, second end
  end
end

local function receive(self, state, size, name)
  size = size == nil and udp._DATAGRAMSIZE or math.floor(object.check_number(size, 2, name))
  return repeated(self, state, false, native.receive_from, math.max(0, math.min(size, 65536)))
end

-- Adds to `methods` what sockets for datagrams of that kind have in common.
function udp.add(common, of)
  object.add_common(common, of)

  function common:receive(size)
    local data, message = receive(self, object.check(self, of, nil, "receive"), size, "receive")
    if not data then return nil, message end
    return data
  end
  function common:receivefrom(size)
    return receive(self, object.check(self, of, of.unconnected, "receivefrom"), size, "receivefrom")
  end
  function common:send(data)
    local state = object.check(self, of, of.connected, "send")
    data = check_string(data, 2, "send")
    local sent, message = repeated(self, state, true, native.send, data, 1, #data)
    if not sent then return nil, message == "closed" and "refused" or message end
    return sent + 0.0
  end
end
function udp.send_to(self, state, ...)
  local sent, message = repeated(self, state, true, native.send_to, ...)
  if not sent then return nil, message == "closed" and "refused" or message end
  return sent + 0.0
end

udp.add(methods, kind)

function methods:sendto(data, host, port)
  local state = object.check(self, kind, kind.unconnected, "sendto")
  data, host, port = check_string(data, 2, "sendto"), check_string(host, 3, "sendto"), check_string(port, 4, "sendto")
  local address, family
  if not host:find("\0", 1, true) then address, family = native.numeric(host) end
  if not address then return nil, "Name or service not known" end
  if state.family and state.family ~= family then return nil, "Address family for hostname not supported" end
  local number, message = names.port(port, true)
  if not number then return nil, message end
  if not state.family then  -- else it is open, or closed for good
    local done
    done, message = object.open(self, state, family)
    if not done then return nil, message end
  end
  return udp.send_to(self, state, data, address, number)
end

function methods:setpeername(host, port)
  local state = object.check(self, kind, nil, "setpeername")
  host = check_string(host, 2, "setpeername")
  if host == "*" then
    native.connect(self)
    object.become(self, state, kind.unconnected)
    return 1.0
  end
  port = check_string(port, 3, "setpeername")
  local done, message = names.with_addresses(self, state, native.connect, host, port)
  if not done then return nil, message end
  object.become(self, state, kind.connected)
  return 1.0
end

function methods:setsockname(host, port)
  local state = object.check(self, kind, kind.unconnected, "setsockname")
  host, port = check_string(host, 2, "setsockname"), check_string(port, 3, "setsockname")
  local done, message = names.with_addresses(self, state, native.bind, host, port)
  if not done then return nil, message end
  return 1.0
end

object.add_internet(methods, kind, "connected")
object.define(kind, {"connected", "unconnected"}, methods)

function udp.udp() return object.create(kind, kind.unconnected) end
function udp.udp4() return object.create(kind, kind.unconnected, "inet") end
function udp.udp6() return object.create(kind, kind.unconnected, "inet6") end

return udp
