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

-- A method of sockets of `class`: call(self, state, path), after which they are of class `becomes`.
local function with_path(name, kind, class, call, becomes)
  return function(self, path)
    local state = object.check(self, kind, class and kind[class], name)
    local done, message = check_path(path, 2, name)
    if done then done, message = call(self, state, done) end
    if not done then return nil, message end
    if becomes then object.become(self, state, kind[becomes]) end
    return 1.0
  end
end

local function bind(self, _, path) return native.bind(self, path) end

-- -- streams -------------------------------------------------------------------------------------------------------

local streams = {name = "unixstream", options = "unix"}
local methods = {}
stream.add(methods, streams, function() end)

methods.bind = with_path("bind", streams, "master", bind)
methods.setsockname = methods.bind
methods.connect = with_path("connect", streams, "master", stream.connect, "client")
methods.setpeername = methods.connect

object.define(streams, {"master", "client", "server"}, methods)

-- -- datagrams -----------------------------------------------------------------------------------------------------

local datagrams = {name = "unixdgram", options = "unix", is_datagram = true}
local datagram = {}
udp.add(datagram, datagrams)

datagram.bind = with_path("bind", datagrams, "unconnected", bind)
datagram.setsockname = datagram.bind
datagram.connect = with_path("connect", datagrams, nil, function(self, _, path)
  return native.connect(self, path)
end, "connected")
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

local function new_stream() return object.create(streams, streams.master, "unix") end
local function new_datagram() return object.create(datagrams, datagrams.unconnected, "unix") end

-- Older programs call the module.
return setmetatable({stream = new_stream, tcp = new_stream, dgram = new_datagram, udp = new_datagram},
  {__call = function() return new_stream() end})
