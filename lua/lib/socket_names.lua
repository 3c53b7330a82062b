-- Names and addresses of LuaSocket over ours: what getaddrinfo would give, and the table socket.dns.
local native = require "evlua.compat.native"
local object = require "evlua.compat.object"
local evlua_dns = require "evlua.dns"

local names = {}

local kUnknown = "host or service not provided, or not known"
local messages = {
  EAI_NONAME = kUnknown,
  EAI_NODATA = kUnknown,
  EAI_AGAIN = "temporary failure in name resolution",
  EAI_FAIL = "non-recoverable failure in name resolution",
  ETIMEDOUT = "timeout",
}

local families = {inet = "IPv4", inet6 = "IPv6"}

-- The addresses of a host: a list of {addr =, family =}; or nil and LuaSocket's message. `family` limits it.
function names.find(host, family)
  if host:find("\0", 1, true) then return nil, kUnknown end
  local address, of = native.numeric(host)
  if address then
    if family and family ~= of then return nil, "address family for hostname not supported" end
    return {{addr = address, family = of}}
  end
  local found, message, code = evlua_dns.lookup(host, {family = families[family]})
  if not found then return nil, messages[code] or message end
  local list = {}
  for i, addr in ipairs(found) do
    list[i] = {addr = addr, family = addr:find(":", 1, true) and "inet6" or "inet"}
  end
  return list
end

-- A port, given as a number, as digits, or as the name of a service.
function names.port(value, is_datagram)
  local number = math.tointeger(tonumber(value))
  if number and number >= 0 then return number & 0xffff end
  local port = native.service(value, is_datagram)
  if port then return port end
  return nil, is_datagram and kUnknown or "service not supported for socket type"
end

-- Calls call(self, address, port) with the addresses of the host in turn, those of one family, until one does.
function names.with_addresses(self, state, call, host, port)
  local number, message = names.port(port, state.kind.is_datagram)
  if not number then return nil, message end
  local list
  state.closes = false
  if host == "*" then
    list = {{addr = "0.0.0.0", family = "inet"}, {addr = "::", family = "inet6"}}
  else
    list, message = names.find(host, state.family)
    if not list then return nil, message end
  end
  if state.closes then return nil, "closed" end
  for _, entry in ipairs(list) do
    if not state.family or state.family == entry.family then
      local done
      done, message = object.open(self, state, entry.family)
      if done then done, message = call(self, entry.addr, number) end
      if done then return true end
    end
  end
  return nil, message
end

local dns = {}
names.dns = dns

function dns.gethostname() return native.host_name() end

function dns.getaddrinfo(host)
  return names.find(object.check_string(host, 1, "getaddrinfo"))
end

-- What toip and tohostname tell of a host: its name, and its IPv4 addresses.
local function resolve(host)
  if host:find("\0", 1, true) then return nil, "host not found" end
  local address = native.numeric(host)
  if address then
    local found = evlua_dns.reverse(address)
    if not found then return nil, "host not found" end
    return {name = found[1], alias = table.move(found, 2, #found, 1, {}), ip = {address}}
  end
  local found, _, code = evlua_dns.lookup(host, {family = "IPv4"})
  if not found then return nil, code == "EAI_AGAIN" and "Host name lookup failure" or "host not found" end
  return {name = host, alias = {}, ip = found}
end

function dns.toip(host)
  local known, message = resolve(object.check_string(host, 1, "toip"))
  if not known then return nil, message end
  return known.ip[1], known
end

function dns.tohostname(host)
  local known, message = resolve(object.check_string(host, 1, "tohostname"))
  if not known then return nil, message end
  return known.name, known
end

function dns.getnameinfo(host, service)
  if host == nil and service == nil then
    error("host and service cannot be both nil", 2)
  end
  local list = {}
  if host ~= nil then
    local found, message = names.find(object.check_string(host, 1, "getnameinfo"))
    if not found then return nil, message end
    for i, entry in ipairs(found) do
      local known = evlua_dns.reverse(entry.addr)
      list[i] = known and known[1] or entry.addr
    end
  end
  return list, service
end

return names
