-- evlua.dns and net.connect, against a DNS server of our own, which also drops, delays, truncates and lies.
local evlua, net, dns = require "evlua", require "evlua.net", require "evlua.dns"
local fails = dofile((...):gsub("[^/]*$", "../support.lua")).fails

local A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, CAA = 1, 2, 5, 6, 12, 15, 16, 28, 33, 257

-- The server -----------------------------------------------------------------------------------------------------

local function name(text)
  local wire = {}
  for label in text:gmatch("[^.]+") do wire[#wire + 1] = string.pack("s1", label) end
  return table.concat(wire) .. "\0"
end

local function ipv4(text)
  local a, b, c, d = text:match("(%d+)%.(%d+)%.(%d+)%.(%d+)")
  return string.char(a, b, c, d)
end

local function record(kind, ttl, data) return "\xc0\x0c" .. string.pack(">I2I2I4s2", kind, 1, ttl, data) end
local function soa(ttl, minimum)
  return record(SOA, ttl, name("ns.test") .. name("admin.test") .. string.pack(">I4I4I4I4I4", 7, 6, 5, 4, minimum))
end

-- name .. " " .. type -> answers, {rcode =, authority =, how =}
local zone = {
  ["a.test 1"] = {record(A, 60, ipv4("192.0.2.1")), record(A, 30, ipv4("192.0.2.2"))},
  ["a.test 28"] = {record(AAAA, 60, "\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\1")},
  ["four.test 1"] = {record(A, 60, ipv4("192.0.2.4"))},
  ["mx.test 15"] = {record(MX, 60, string.pack(">I2", 10) .. name("mail.test")),
    record(MX, 60, string.pack(">I2", 20) .. "\4back\xc0\x0c")},
  ["_http._tcp.test 33"] = {record(SRV, 60, string.pack(">I2I2I2", 1, 2, 8080) .. name("web.test"))},
  ["txt.test 16"] = {record(TXT, 60, string.pack("s1s1", "one;", "two\0")), record(TXT, 60, "\0")},
  ["ns.test 2"] = {record(NS, 60, name("ns.test"))},
  ["alias.test 5"] = {record(CNAME, 60, name("four.test"))},
  ["alias.test 1"] = {record(CNAME, 60, name("four.test")),
    name("four.test") .. string.pack(">I2I2I4s2", A, 1, 60, ipv4("192.0.2.4"))},
  ["soa.test 6"] = {soa(60, 3)},
  ["caa.test 257"] = {record(CAA, 60, "\0" .. string.pack("s1", "issue") .. "ca.test")},
  ["strange.test 12"] = {record(PTR, 60, "\4a.b \2\\\xff\0")},
  ["9.2.0.192.in-addr.arpa 12"] = {record(PTR, 60, name("nine.test")), record(PTR, 60, name("neun.test"))},
  ["1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa 12"] = {record(PTR, 60, name("six.test"))},
  ["nodata.test 1"] = {authority = soa(60, 60)},
  ["short.test 1"] = {record(A, 0, ipv4("192.0.2.5"))},
  ["brief.test 1"] = {record(A, 1, ipv4("192.0.2.6"))},
  ["dropped.test 1"] = {how = "drop"},
  ["second.test 1"] = {record(A, 60, ipv4("192.0.2.7")), how = "drop the first"},
  ["slow.test 1"] = {record(A, 60, ipv4("192.0.2.8")), how = "delay"},
  ["long.test 1"] = {how = "truncate"},
  ["forged.test 1"] = {record(A, 60, ipv4("192.0.2.10")), how = "forge"},
  ["cut.test 16"] = {record(TXT, 60, "\200abc")},
  ["loop.test 12"] = {record(PTR, 60, "\xc0\x2a")},
  ["failing.test 1"] = {rcode = 2},
  ["refused.test 1"] = {rcode = 5},
  ["host.two.test 1"] = {record(A, 60, ipv4("192.0.2.11"))},
}
for i = 1, 200 do zone["long.test 1"][i] = record(A, 60, ipv4("198.51.100." .. i)) end

local asked = {}

local function respond(id, question, entry, flags)
  return string.pack(">I2I2I2I2I2I2", id, flags | entry.rcode, 1, #entry, entry.authority and 1 or 0, 0) .. question ..
    table.concat(entry) .. (entry.authority or "")
end

-- What is sent for a query, and when; nothing: no answer.
local function answers(query, is_tcp)
  local id = string.unpack(">I2", query)
  local labels, at = {}, 13
  while true do
    local label
    label, at = string.unpack("s1", query, at)
    if label == "" then break end
    labels[#labels + 1] = label:lower()
  end
  local kind = string.unpack(">I2", query, at)
  local question, key = query:sub(13, at + 3), table.concat(labels, ".") .. " " .. kind
  asked[key] = (asked[key] or 0) + 1
  local entry = zone[key]
  if not entry then
    local exists = false
    for other in pairs(zone) do exists = exists or other:match("^(%S+)") == key:match("^(%S+)") end
    entry = {rcode = exists and 0 or 3, authority = soa(60, 60)}
  end
  entry.rcode = entry.rcode or 0
  local good = respond(id, question, entry, 0x8180)
  if entry.how == "drop" or (entry.how == "drop the first" and asked[key] == 1) then return {} end
  if entry.how == "truncate" and not is_tcp then return {respond(id, question, {rcode = 0}, 0x8380)} end
  if entry.how == "delay" then evlua.sleep(0.05) end
  if entry.how == "forge" then
    local lie = {record(A, 60, ipv4("203.0.113.66")), rcode = 0}
    return {"", "\0", ("\xff"):rep(100), good:sub(1, 11), respond(id ~ 1, question, lie, 0x8180),
      respond(id, name("other.test") .. string.pack(">I2I2", A, 1), lie, 0x8180), good}
  end
  return {good}
end

local function serve_udp(socket)
  for query, from in socket:receive_each() do
    evlua.spawn(function()
      for _, answer in ipairs(answers(query, false)) do socket:send(answer, from) end
    end)
  end
end

local function serve_tcp(listener)
  for peer in listener:accept_each() do
    evlua.spawn(function()
      local size = peer:read_exactly(2)
      if size then
        local query = assert(peer:read_exactly((string.unpack(">I2", size))))
        for _, answer in ipairs(answers(query, true)) do peer:write(string.pack(">s2", answer)) end
        peer:read()
      end
      peer:close()
    end)
  end
end

-- A port that is free for both.
local socket, listener
repeat
  socket = assert(net.datagram("127.0.0.1:0"))
  listener = net.listen(socket:local_address())
  if not listener then socket:close() end
until listener
local server = socket:local_address()
local tasks = {evlua.spawn(serve_udp, socket), evlua.spawn(serve_tcp, listener)}
local function with(options)
  options = options or {}
  options.servers = options.servers or {server}
  return options
end

local function first(list, message)
  assert(list, message)
  assert(#list == 1, #list)
  return list[1]
end

it("resolves records of every kind", function()
  local list = assert(dns.resolve("a.test", "A", with()))
  assert(#list == 2 and list[1].address == "192.0.2.1" and list[1].ttl == 60 and list[2].address == "192.0.2.2")
  assert(first(dns.resolve("A.Test", "aaaa", with())).address == "2001:db8::1")
  list = assert(dns.resolve("mx.test", "MX", with()))
  assert(list[1].priority == 10 and list[1].host == "mail.test" and list[2].host == "back.mx.test")
  local srv = first(dns.resolve("_http._tcp.test", "SRV", with()))
  assert(srv.priority == 1 and srv.weight == 2 and srv.port == 8080 and srv.host == "web.test")
  list = assert(dns.resolve("txt.test", "TXT", with()))
  assert(list[1].text == "one;two\0" and list[2].text == "")
  assert(first(dns.resolve("ns.test", "NS", with())).host == "ns.test")
  assert(first(dns.resolve("alias.test", "CNAME", with())).host == "four.test")
  assert(first(dns.resolve("alias.test", "A", with())).address == "192.0.2.4")
  local start = first(dns.resolve("soa.test", "SOA", with()))
  assert(start.host == "ns.test" and start.mailbox == "admin.test" and start.serial == 7 and start.refresh == 6 and
    start.retry == 5 and start.expire == 4 and start.minimum == 3)
  local caa = first(dns.resolve("caa.test", "CAA", with()))
  assert(caa.flags == 0 and caa.tag == "issue" and caa.value == "ca.test")
  assert(first(dns.resolve("strange.test", "PTR", with())).host == "a\\.b\\032.\\\\\\255")
  fails("EAI_NONAME", "resolve missing.test: ", dns.resolve("missing.test", "A", with()))
  fails("EAI_NODATA", "resolve a.test: ", dns.resolve("a.test", "MX", with()))
  fails("EAI_FAIL", nil, dns.resolve("cut.test", "TXT", with()))
  fails("EAI_FAIL", nil, dns.resolve("loop.test", "PTR", with()))
  fails("EAI_AGAIN", nil, dns.resolve("failing.test", "A", with()))
  fails("EAI_AGAIN", nil, dns.resolve("refused.test", "A", with{tries = 1}))
  fails("EAI_NONAME", nil, dns.resolve("", "A", with()))
  fails("EAI_NONAME", nil, dns.resolve(("x"):rep(64) .. ".test", "A", with()))
  fails("EAI_NONAME", nil, dns.resolve(("x"):rep(5000), "A", with()))
  fails("EAI_NONAME", nil, dns.resolve("a.test\0", "A", with()))
end)

it("looks up addresses", function()
  local list = assert(dns.lookup("a.test", with()))
  table.sort(list)
  assert(table.concat(list, " ") == "192.0.2.1 192.0.2.2 2001:db8::1", table.concat(list, " "))
  assert(table.concat(dns.lookup("a.test", with{family = "IPv6"}), " ") == "2001:db8::1")
  assert(table.concat(dns.lookup("a.test", with{family = "IPv4"}), " ") == "192.0.2.1 192.0.2.2")
  assert(first(dns.lookup("alias.test", with())) == "192.0.2.4")
  fails("EAI_NODATA", nil, dns.lookup("four.test", with{family = "IPv6"}))
  fails("EAI_NONAME", "resolve missing.test: ", dns.lookup("missing.test", with()))
  assert(first(dns.lookup("192.0.2.99")) == "192.0.2.99" and first(dns.lookup("::1")) == "::1")
  fails("EAI_NONAME", nil, dns.lookup("::1", {family = "IPv4"}))
end)

it("knows the hosts file, and what must be so", function()
  for _, host in ipairs{"localhost", "LOCALHOST", "localhost.", "any.localhost"} do
    local found = assert(dns.lookup(host, with()))
    for _, address in ipairs(found) do assert(address == "127.0.0.1" or address == "::1", address) end
  end
end)

it("does not ask about what cannot be a name", function()
  for _, host in ipairs{"", ".", "a..b", "-", "with space", "300.1.1.1", "x.invalid", "a\0b", ("x"):rep(300)} do
    fails("EAI_NONAME", nil, dns.lookup(host, with()))
  end
  for key in pairs(asked) do assert(not key:find("localhost", 1, true) and not key:find("invalid", 1, true), key) end
end)

it("looks in the domains", function()
  assert(first(dns.lookup("host", with{domains = {"one.test", "two.test"}})) == "192.0.2.11")
  assert(asked["host.one.test 1"] and asked["host.two.test 1"])
  fails("EAI_NONAME", nil, dns.lookup("host", with{domains = {"one.test", "two.test"}, search = false}))
  fails("EAI_NONAME", nil, dns.lookup("host.", with{domains = {"two.test"}}))
end)

it("finds names of addresses", function()
  assert(table.concat(dns.reverse("192.0.2.9", with()), " ") == "nine.test neun.test")
  assert(first(dns.reverse("2001:db8::1", with())) == "six.test")
  fails("EAI_NONAME", "resolve 192.0.2.10: ", dns.reverse("192.0.2.10", with()))
  fails("EAI_NONAME", nil, dns.reverse("a.test", with()))
end)

it("bears servers that do not do as they should", function()
  assert(#dns.resolve("long.test", "A", with()) == 200)  -- over TCP
  assert(asked["long.test 1"] == 2)
  assert(first(dns.resolve("forged.test", "A", with())).address == "192.0.2.10")
  assert(first(dns.resolve("slow.test", "A", with())).address == "192.0.2.8")
  assert(first(dns.resolve("second.test", "A", with{attempt_timeout = 0.05})).address == "192.0.2.7")
  assert(asked["second.test 1"] == 2)
  fails("EAI_AGAIN", nil, dns.resolve("dropped.test", "A", with{attempt_timeout = 0.02, tries = 2}))
  assert(asked["dropped.test 1"] == 2)
  local began = evlua.now()
  fails("ETIMEDOUT", "resolve dropped.test: timed out", dns.resolve("dropped.test", "A", with{timeout = 0.05}))
  fails("ETIMEDOUT", nil, dns.lookup("dropped.test", with{timeout = 0.05}))
  fails("ETIMEDOUT", nil, evlua.timeout(0.05, function() return dns.lookup("dropped.test", with()) end))
  assert(evlua.now() - began < 4)
  local waiting = evlua.spawn(function() return select(3, dns.resolve("dropped.test", "A", with())) end)
  while waiting:status() ~= "waiting" do evlua.yield() end
  waiting:cancel()
  waiting:join()
end)

it("asks the second server when the first one is not there or says nothing", function()
  local gone = assert(net.datagram("127.0.0.1:0"))
  local nobody = gone:local_address()
  local silent = {servers = {nobody, server}, attempt_timeout = 0.05, cache = false}
  assert(first(dns.resolve("four.test", "A", silent)).address == "192.0.2.4")
  gone:close()
  assert(first(dns.resolve("four.test", "A", {servers = {nobody, server}, cache = false})).address == "192.0.2.4")
  fails("EAI_AGAIN", nil, dns.resolve("four.test", "A", {servers = nobody, cache = false, tries = 1}))
end)

it("remembers answers for their time to live", function()

  dns.clear_cache()
  asked = {}
  for _ = 1, 3 do
    assert(dns.resolve("four.test", "A", with()) and dns.lookup("a.test", with()))
    fails("EAI_NODATA", nil, dns.resolve("nodata.test", "A", with()))
    fails("EAI_NONAME", nil, dns.resolve("missing.test", "A", with()))
    fails("EAI_NONAME", nil, dns.lookup("absent.test", with{search = false}))
    assert(dns.resolve("short.test", "A", with()))
  end
  assert(asked["four.test 1"] == 1 and asked["a.test 1"] == 1 and asked["nodata.test 1"] == 1)
  assert(asked["missing.test 1"] == 1 and asked["absent.test 1"] == 1)
  assert(asked["short.test 1"] == 3)  -- its time to live is 0
  assert(dns.resolve("four.test", "A", with{cache = false}) and asked["four.test 1"] == 2)
  -- Others may differ.
  assert(dns.resolve("four.test", "A", {servers = {server, server}}) and asked["four.test 1"] == 3)
  dns.clear_cache()
  assert(dns.resolve("four.test", "A", with()) and asked["four.test 1"] == 4)
  assert(dns.resolve("brief.test", "A", with()))
  do
    local deadline = evlua.now() + 30
    repeat
      assert(evlua.now() < deadline)
      evlua.sleep(0.1)
      assert(dns.resolve("brief.test", "A", with()))
    until asked["brief.test 1"] == 2
  end
end)

it("remembers so many answers and no more", function()
  zone["many.test 1"] = {record(A, 60, ipv4("192.0.2.12"))}
  assert(dns.resolve("many.test", "A", with()) and asked["many.test 1"] == 1)
  evlua.scope(function(scope)
    for task = 0, 31 do
      scope:spawn(function()
        for i = 1, 40 do fails("EAI_NONAME", nil, dns.resolve(task .. "-" .. i .. ".test", "A", with())) end
      end)
    end
  end)
  assert(dns.resolve("many.test", "A", with()) and asked["many.test 1"] == 2)
end)

it("takes more look-ups at once than may run", function()
  local good, tasks_of = 0, {}
  evlua.scope(function(scope)
    for i = 1, 600 do
      tasks_of[i] = scope:spawn(function()
        local found, _, code = dns.resolve("slow.test", "A", with{cache = false, timeout = 60})
        if found then good = good + 1 else assert(code == "ECANCELED" or code == "ETIMEDOUT", code) end
      end)
    end
    evlua.yield()
    for i = 300, 400 do tasks_of[i]:cancel() end
  end)
  assert(good >= 499, good)
end)

it("connects by name", function()
  local target = assert(net.listen("127.0.0.1:0"))
  local port = target:port()
  zone["web.test 1"] = {record(A, 60, ipv4("127.0.0.1"))}
  local stream = assert(net.connect("web.test", port, {timeout = 30, dns = with()}))
  assert(stream:remote_address() == "127.0.0.1:" .. port)
  stream:close()
  -- An address that refuses costs nothing; the next one is tried at once.
  zone["refusing.test 1"] = {record(A, 60, ipv4("127.0.0.9")), record(A, 60, ipv4("127.0.0.1"))}
  local least = math.huge  -- other programs may take their time, too
  for _ = 1, 20 do
    local began = evlua.now()
    stream = assert(net.connect("refusing.test", port, {timeout = 30, dns = with()}))
    assert(stream:remote_address() == "127.0.0.1:" .. port)
    stream:close()
    least = math.min(least, evlua.now() - began)
    if least < 0.25 then break end
  end
  assert(least < 0.25, least)
  -- One that says nothing delays by a quarter of a second.
  local full = assert(net.listen("127.0.0.8:" .. port, {backlog = 1}))
  local plugs = {}
  repeat  -- until it takes no more
    local plug, message, code = net.connect("127.0.0.8", port, {timeout = 0.2})
    plugs[#plugs + 1] = plug
    assert((plug or code == "ETIMEDOUT") and #plugs < 100, message)
  until not plug
  zone["silent.test 1"] = {record(A, 60, ipv4("127.0.0.8")), record(A, 60, ipv4("127.0.0.1"))}
  local began = evlua.now()
  stream = assert(net.connect("silent.test", port, {timeout = 30, dns = with()}))
  local took = evlua.now() - began
  assert(stream:remote_address() == "127.0.0.1:" .. port, stream:remote_address())
  assert(took >= 0.24 and took < 20, took)
  stream:close()
  zone["mute.test 1"] = {record(A, 60, ipv4("127.0.0.8")), record(A, 60, ipv4("127.0.0.8"))}
  fails("ETIMEDOUT", nil, net.connect("mute.test", port, {timeout = 0.4, dns = with()}))
  local connecting = evlua.spawn(function() return select(3, net.connect("mute.test", port, {dns = with()})) end)
  evlua.sleep(0.3)
  connecting:cancel()
  connecting:join()
  for _, plug in ipairs(plugs) do plug:close() end
  full:close()
  -- Both families: the first to connect wins.
  local six = net.listen("[::1]:" .. port)
  if six then
    zone["both.test 1"] = {record(A, 60, ipv4("127.0.0.1"))}
    zone["both.test 28"] = {record(AAAA, 60, ("\0"):rep(15) .. "\1")}
    stream = assert(net.connect("both.test", port, {timeout = 30, dns = with()}))
    assert(stream:remote_address() == "[::1]:" .. port)
    stream:close()
    six:close()
    stream = assert(net.connect("both.test", port, {timeout = 30, dns = with()}))
    assert(stream:remote_address() == "127.0.0.1:" .. port)
    stream:close()
  end
  target:close()
  fails("ECONNREFUSED", "connect refusing.test:" .. port, net.connect("refusing.test", port, {dns = with()}))
  fails("EAI_NONAME", "resolve missing.test:" .. port, net.connect("missing.test", port, {dns = with()}))
end)

it("names wrong arguments", function()
  for _, case in ipairs{
    {dns.lookup}, {dns.lookup, {}}, {dns.lookup, "x", {severs = {}}}, {dns.lookup, "x", {family = "IPv5"}},
    {dns.lookup, "x", {servers = {}}}, {dns.lookup, "x", {servers = "example.org"}}, {dns.lookup, "x", {servers = {1}}},
    {dns.lookup, "x", {servers = "unix:/x"}}, {dns.lookup, "x", {servers = 1}}, {dns.lookup, "x", {tries = 0}},
    {dns.lookup, "x", {attempt_timeout = 0}}, {dns.lookup, "x", {domains = {}}}, {dns.lookup, "x", {domains = {{}}}},
    {dns.lookup, "x", {search = 1}}, {dns.lookup, "x", {cache = 1}}, {dns.resolve, "x"}, {dns.resolve, "x", "ANY"},
    {dns.resolve, "x", "A", {family = "IPv4"}}, {dns.reverse}, {net.connect, "x", 80, {dns = 1}},
    {net.connect, "x", 80, {dns = {timeout = 1}}}, {net.connect, "x", 80, {dns = {severs = 1}}},
  } do
    local ok, complaint = pcall(table.unpack(case, 1, 4))
    assert(not ok and complaint:find("bad argument", 1, true), complaint)
  end
end)

after_all(function()
  socket:close()
  listener:close()
  for _, task in ipairs(tasks) do task:join() end
end)
