-- LuaSocket's TCP objects over ours.
local native = require "evlua.compat.native"
local object = require "evlua.compat.object"
local stream = require "evlua.compat.stream"
local names = require "evlua.compat.names"
local check_string = object.check_string

local tcp = {}
local kind = {name = "tcp", options = "stream"}
local methods = {}

-- Tries the addresses of the host in turn; with a family given, those only.
local function connect(self, state, host, port)
  local number, message = names.port(port)
  if not number then return nil, message end
  local list
  state.closes = false
  list, message = names.find(host, state.family)
  if not list then return nil, message end
  for _, entry in ipairs(list) do
    if state.closes then return nil, "closed" end
    local done
    done, message = object.open(self, state, entry.family)
    if done then
      done, message = stream.connect(self, state, entry.addr, number)
      if done then return true end
      if state.block == 0 then break end
    end
  end
  return nil, message
end

local function bind(self, state, host, port)
  return names.with_addresses(self, state, native.bind, host, port)
end

stream.add(methods, kind, function(peer, server) peer.family = server.family end)

function methods:bind(host, port)
  local state = object.check(self, kind, kind.master, "bind")
  host, port = check_string(host, 2, "bind"), check_string(port, 3, "bind")
  local done, message = bind(self, state, host, port)
  if not done then return nil, message end
  return 1.0
end
methods.setsockname = methods.bind

function methods:connect(host, port)
  local state = object.check(self, kind, nil, "connect")
  host, port = check_string(host, 2, "connect"), check_string(port, 3, "connect")
  local done, message = connect(self, state, host, port)
  -- A connection may come about later, when this was not to wait for it.
  object.become(self, state, kind.client)
  if not done then return nil, message end
  return 1.0
end
methods.setpeername = methods.connect

object.add_internet(methods, kind)
object.define(kind, {"master", "client", "server"}, methods)

function tcp.tcp() return object.create(kind, kind.master) end
function tcp.tcp4() return object.create(kind, kind.master, "inet") end
function tcp.tcp6() return object.create(kind, kind.master, "inet6") end

local families = {unspec = false, inet = "inet", inet6 = "inet6"}

function tcp.connect(host, port, local_host, local_port, family)
  host, port = check_string(host, 1, "connect"), check_string(port, 2, "connect")
  if family == nil then family = "unspec" end
  if families[family] == nil then
    object.bad_argument(5, "connect", ("invalid option '%s'"):format(tostring(family)))
  end
  local self = object.new(kind, kind.master)
  local state = native.state(self)
  state.family = families[family] or nil
  local done, message = true, nil
  if local_host ~= nil then
    done, message = bind(self, state, check_string(local_host, 3, "connect"), check_string(local_port, 4, "connect"))
  end
  if done then done, message = connect(self, state, host, port) end
  if not done then
    native.close(self)  -- rather than when the collector comes by
    return nil, message
  end
  object.become(self, state, kind.client)
  return self
end

return tcp
