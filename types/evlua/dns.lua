---@meta evlua.dns

---Names and their addresses.
---@class evlua.dns
local dns = {}

---@class evlua.DnsServerOptions
---@field attempt_timeout? number seconds until a server is asked again (2)
---@field tries? integer how often each server is asked, 1 to 10 (3)
---@field servers? string|string[] addresses, with a port or without (the system's)
---@field domains? string[] search domains, for `lookup` (the system's)
---@field search? boolean `lookup` tries short names with the search domains (true)
---@field cache? boolean an answer that is still known will do (true)

---@class evlua.DnsOptions: evlua.DnsServerOptions
---@field timeout? number seconds for the whole call

---@class evlua.LookupOptions: evlua.DnsOptions
---@field family? "IPv4"|"IPv6"

---@alias evlua.DnsType "A"|"AAAA"|"MX"|"SRV"|"TXT"|"PTR"|"NS"|"CNAME"|"SOA"|"CAA"

---@class evlua.DnsRecord
---@field ttl integer seconds
---@field address? string A, AAAA
---@field host? string MX, SRV, PTR, NS, CNAME, SOA
---@field priority? integer MX, SRV
---@field weight? integer SRV
---@field port? integer SRV
---@field text? string TXT
---@field mailbox? string SOA
---@field serial? integer SOA
---@field refresh? integer SOA
---@field retry? integer SOA
---@field expire? integer SOA
---@field minimum? integer SOA
---@field flags? integer CAA
---@field tag? string CAA
---@field value? string CAA

---The addresses of a host, best first: from the hosts file or from DNS.
---@param host string
---@param options? evlua.LookupOptions
---@return string[]? addresses
---@return string? message
---@return string? code
function dns.lookup(host, options) end

---The records of that type of exactly that name.
---@param name string
---@param type evlua.DnsType
---@param options? evlua.DnsOptions
---@return evlua.DnsRecord[]? records
---@return string? message
---@return string? code
function dns.resolve(name, type, options) end

---The names of an address: from the hosts file or from DNS.
---@param address string
---@param options? evlua.DnsOptions
---@return string[]? names
---@return string? message
---@return string? code
function dns.reverse(address, options) end

---Forgets all answers.
function dns.clear_cache() end

return dns
