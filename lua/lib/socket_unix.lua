-- LuaSocket's socket.unix over ours: streams and datagrams over Unix-domain sockets.
local native = require "evlua.compat.native"
local object = require "evlua.compat.object"
local stream = require "evlua.compat.stream"
local udp = require "evlua.compat.udp"
local check_string = object.check_string

local function check_path(path, position, name)
  path = check_string(path, position, name)
  if #path >= 108 then return nil, "path too long" end
  return path
end

-- -- streams -------------------------------------------------------------------------------------------------------

local streams = {name = "unixstream", options = "unix"}
local methods = {}
stream.add(methods, streams, function() end)

function methods:bind(path)
  object.check(self, streams, streams.master, "bind")
  local known, message = check_path(path, 2, "bind")
  if not known then return nil, message end
  local done
  done, message = native.bind(self, known)
  if not done then return nil, message end
  return 1.0
end
methods.setsockname = methods.bind

function methods:connect(path)
  local state = object.check(self, streams, streams.master, "connect")
  local known, message = check_path(path, 2, "connect")
  if not known then return nil, message end
  local done
  done, message = stream.connect(self, state, known)
  if not done then return nil, message end
  object.become(self, state, streams.client)
  return 1.0
end
methods.setpeername = methods.connect

object.define(streams, {"master", "client", "server"}, methods)

-- -- datagrams -----------------------------------------------------------------------------------------------------

local datagrams = {name = "unixdgram", options = "unix"}
local datagram = {}
udp.add(datagram, datagrams)

function datagram:bind(path)
  object.check(self, datagrams, datagrams.unconnected, "bind")
  local known, message = check_path(path, 2, "bind")
  if not known then return nil, message end
  local done
  done, message = native.bind(self, known)
  if not done then return nil, message end
  return 1.0
end
datagram.setsockname = datagram.bind

function datagram:connect(path)
  local state = object.check(self, datagrams, nil, "connect")
  local known, message = check_path(path, 2, "connect")
  if not known then return nil, message end
  local done
  done, message = native.connect(self, known)
  if not done then return nil, message end
  object.become(self, state, datagrams.connected)
  return 1.0
end
datagram.setpeername = datagram.connect

function datagram:sendto(data, path)
  local state = object.check(self, datagrams, datagrams.unconnected, "sendto")
  data = check_string(data, 2, "sendto")
  local known, message = check_path(path, 3, "sendto")
  if not known then return nil, message end
  return udp.send_to(self, state, data, known)
end

object.define(datagrams, {"connected", "unconnected"}, datagram)

-- -- the module ----------------------------------------------------------------------------------------------------

local function create(kind, class, is_datagram)
  local self = object.new(kind, class)
  local done, message = native.open(self, "unix", is_datagram)
  if not done then return nil, message end
  return self
end

local function new_stream() return create(streams, streams.master, false) end
local function new_datagram() return create(datagrams, datagrams.unconnected, true) end

-- Older programs call the module.
return setmetatable({stream = new_stream, tcp = new_stream, dgram = new_datagram, udp = new_datagram},
  {__call = function() return new_stream() end})
