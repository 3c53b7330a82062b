-- Host names.
require "show"
local socket = require "socket"
local dns = socket.dns
show("gethostname", dns.gethostname() ~= "")
show("toip", (dns.toip("localhost")))
show("toip", (dns.toip("127.0.0.1")))
local ip, resolved = dns.toip("localhost")
-- glibc tells 127.0.0.1 twice where ::1 is a localhost, too.
show("resolved", ip, resolved.name, #resolved.ip > 0, resolved.ip[1], type(resolved.alias))
show("tohostname", (dns.tohostname("127.0.0.1")))
show("tohostname", (dns.tohostname("localhost")))
show("numeric", #dns.getaddrinfo("127.0.0.1"), dns.getaddrinfo("127.0.0.1")[1].family, dns.getaddrinfo("127.1")[1].addr)
show("numeric", dns.getaddrinfo("::1")[1].family, dns.getaddrinfo("0:0::1")[1].addr)
local found = {}
for _, entry in ipairs(dns.getaddrinfo("localhost")) do found[entry.family .. " " .. entry.addr] = true end
show("localhost", found["inet 127.0.0.1"])
show("getnameinfo", dns.getnameinfo("127.0.0.1")[1])
raised("nil", dns.toip)
