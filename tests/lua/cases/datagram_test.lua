-- evlua.net: datagrams over UDP and Unix-domain sockets.
local evlua, net = require "evlua", require "evlua.net"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local fails, waits = support.fails, support.waits

local has_v6 = net.datagram("[::1]:0") ~= nil
local families = {"127.0.0.1:0", "unix:" .. os.tmpname() .. ".a", "unix:@evlua-test-" .. math.random(1 << 40)}
if has_v6 then families[#families + 1] = "[::1]:0" end

it("sends there and back in each family", function()
  for _, address in ipairs(families) do
    local server = assert(net.datagram(address))
    local where = server:local_address()
    assert(address:sub(1, 5) ~= "unix:" or where == address, where)
    assert(server:remote_address() == nil)
    local client = assert(net.datagram(nil, {connect = where}))
    assert(client:remote_address() == where)
    local echo = evlua.spawn(function()
      local count = 0
      for data, from, truncated in server:receive_each() do
        assert(truncated == false and from == client:local_address(), from)
        assert(server:send(data, from))
        count = count + 1
      end
      return count
    end)
    for _, data in ipairs{"hello", "", "a\0b", ("x"):rep(40000)} do
      assert(client:send(data) == true)
      local got, from, truncated = client:receive{timeout = 30}
      assert(got == data and from == where and truncated == false, from)
    end
    assert(server:close() and server:close())
    assert(echo:join() == 4)
    fails("EBADF", "receive: bad file descriptor", server:receive())
    fails("EBADF", "send", server:send("x", where))
    fails("EBADF", nil, server:connect(where))
    fails("EBADF", nil, server:set{ttl = 3})
    assert(tostring(server) == "datagram socket (closed)" and server:local_address() == "?" and server:port() == 0)
    local prefix = address:sub(1, 5) == "unix:" and "datagram " or "udp "
    assert(tostring(client):sub(1, #prefix) == prefix and tostring(client):find(" <-> ", 1, true), tostring(client))
    client:close()
  end
  do
    local path = families[2]:sub(6)
    assert(io.open(path) == nil)  -- close has removed it
  end
end)

it("tells of truncation, by the call's own limit and by what a socket can take", function()
  local server = assert(net.datagram("127.0.0.1:0"))
  local client = assert(net.datagram(nil, {connect = server:local_address()}))
  assert(server:port() > 0 and client:send("0123456789") and client:send("next"))
  local data, from, truncated = server:receive{size = 4, timeout = 30}
  assert(data == "0123" and truncated == true and from == client:local_address())
  data, from, truncated = server:receive{timeout = 30}
  assert(data == "next" and truncated == false)
  fails("EMSGSIZE", "send: message too long", client:send(("x"):rep(70000)))
  server:close() client:close()
  local a = assert(net.datagram("unix:@evlua-long-" .. math.random(1 << 40)))
  local b = assert(net.datagram(nil, {connect = a:local_address()}))
  if b:send(("y"):rep(100000)) then
    data, from, truncated = a:receive{timeout = 30}
    assert(#data == 65536 and truncated == true)
  end
  a:close() b:close()
end)

it("ends when time runs out, when it is cancelled and when the socket is closed", function()
  local socket = assert(net.datagram("127.0.0.1:0"))
  fails("ETIMEDOUT", "receive: timed out", socket:receive{timeout = 0.01})
  fails("ETIMEDOUT", nil, evlua.timeout(0.01, function() return socket:receive() end))
  local waiting = evlua.spawn(function() return select(3, socket:receive()) end)
  waits(waiting)
  fails("EBUSY", nil, socket:receive())
  waiting:cancel()
  waiting:join()
  -- Nothing is lost by all that.
  assert(socket:send("one", socket:local_address()))
  assert(socket:receive{timeout = 30} == "one")
  waiting = evlua.spawn(function() return select(3, socket:receive()) end)
  waits(waiting)
  socket:close()
  assert(waiting:join() == "ECANCELED")
  socket = assert(net.datagram("127.0.0.1:0"))
  local each = evlua.spawn(function() for _ in socket:receive_each() do end return "ended" end)
  waits(each)
  socket:close()
  assert(each:join() == "ended")
end)

it("tells a connected socket, by the next call, that nobody listens", function()
  local gone = assert(net.datagram("127.0.0.1:0"))
  local where = gone:local_address()
  gone:close()
  local socket = assert(net.datagram(nil, {connect = where}))
  assert(socket:send("lost"))
  fails("ECONNREFUSED", "receive: connection refused", socket:receive{timeout = 30})
  assert(socket:send("lost too"))
  local ok, message, code = true
  local deadline = evlua.now() + 30
  repeat ok, message, code = socket:send("and this") until not ok or evlua.now() > deadline
  fails("ECONNREFUSED", "send: connection refused", ok, message, code)
  socket:close()

  -- One that is not connected is told if it asks, and whom it is about. Others do not notice.
  local peer = assert(net.datagram("127.0.0.1:0"))
  socket = assert(net.datagram("127.0.0.1:0", {errors = true}))
  assert(socket:send("lost", where))
  for i = 1, 10 do assert(socket:send("fine", peer:local_address())) end
  for i = 1, 10 do assert(peer:receive{timeout = 30} == "fine") end
  local none, about
  none, message, code, about = socket:receive{timeout = 30}
  fails("ECONNREFUSED", "receive " .. where .. ": connection refused", none, message, code)
  assert(about == where)
  fails("ETIMEDOUT", nil, socket:receive{timeout = 0.01})
  assert(select("#", socket:receive{timeout = 0.01}) == 3)
  assert(socket:set{errors = false})
  assert(socket:send("lost", where))
  fails("ETIMEDOUT", nil, socket:receive{timeout = 0.01})
  socket:close() peer:close()
  fails("ECONNREFUSED", nil, net.datagram(nil, {connect = "unix:@evlua-nobody-" .. math.random(1 << 40)}))
end)

it("connects and disconnects, and hears only the peer", function()
  local a, b, c = assert(net.datagram("127.0.0.1:0")), assert(net.datagram("127.0.0.1:0")),
    assert(net.datagram("127.0.0.1:0"))
  assert(a:connect(b:local_address()) and a:remote_address() == b:local_address())
  assert(a:send("to b") and b:receive{timeout = 30} == "to b")
  assert(c:send("from c", a:local_address()))
  assert(b:send("from b", a:local_address()))
  assert(a:receive{timeout = 30} == "from b")
  fails("ETIMEDOUT", nil, a:receive{timeout = 0.01})
  assert(a:disconnect() and a:remote_address() == nil)
  fails("EDESTADDRREQ", "send: destination address required", a:send("to whom?"))
  assert(c:send("again", a:local_address()) and a:receive{timeout = 30} == "again")
  a:close() b:close() c:close()
end)

it("sends and receives batches", function()
  for _, address in ipairs{"127.0.0.1:0", "unix:@evlua-batch-" .. math.random(1 << 40)} do
    local server = assert(net.datagram(address, {receive_buffer = 1 << 20}))
    local client = assert(net.datagram(nil, {connect = server:local_address()}))
    -- More than the queue of a Unix socket holds, so that the sender must wait.
    local receiver = evlua.spawn(function()
      for i = 1, 200 do
        local data, from = server:receive{timeout = 30}
        assert(data == "number " .. i and from == client:local_address(), data)
      end
      return true
    end)
    local list = {}
    for i = 1, 200 do list[i] = "number " .. i end
    local sent_all, why, _, some = client:send_many(list)
    assert(sent_all == 200, ("%s %s %s"):format(sent_all, why, some))
    assert(receiver:join() == true)
    local to = server:local_address()
    local free = assert(net.datagram(address:match("^unix:") and "unix:@evlua-free-" .. math.random(1 << 40) or nil))
    assert(free:send_many{{"a", to}, {"b", to}, {"", to}} == 3)
    for _, expected in ipairs{"a", "b", ""} do assert(server:receive{timeout = 30} == expected) end
    assert(free:send_many{} == 0)
    local _, message, code, sent = free:send_many{{"c", to}, "nowhere"}
    if sent == nil then sent, message, code, _ = _, nil end  -- the first went: the next call tells
    assert(sent == 1 or code)
    assert(server:receive{timeout = 30} == "c")
    -- A wait for room ends at its deadline, and tells how many went.
    if address:match("^unix:") then
      local many = {}
      for i = 1, 1024 do many[i] = "x" end
      local none
      none, message, code, sent = client:send_many(many, {timeout = 0.01})
      assert(none == nil and code == "ETIMEDOUT" and sent < 1024, code)
      for _ = 1, sent do assert(server:receive{timeout = 30} == "x") end
      fails("ETIMEDOUT", nil, server:receive{timeout = 0.01})
    end
    for _, complaint in ipairs{{1}, {{}}, {{"x", 1}}, {{"x", false}}} do
      local ok, text = pcall(client.send_many, client, complaint)
      assert(not ok and text:find("element 1: a string or {string, address} expected", 1, true), text)
    end
    local too_many = {}
    for i = 1, 1025 do too_many[i] = "x" end
    assert(not pcall(client.send_many, client, too_many))
    server:close() client:close() free:close()
  end
end)

it("ends a sender that waits with close, and when it is cancelled", function()
  local server = assert(net.datagram("unix:@evlua-full-" .. math.random(1 << 40)))
  local client = assert(net.datagram(nil, {connect = server:local_address()}))
  local function fill()
    while true do
      local ok, _, code = client:send("x")
      if not ok then return code end
    end
  end
  local first = evlua.spawn(fill)
  waits(first)
  local second = evlua.spawn(fill)
  waits(second)
  first:cancel()
  first:join()
  client:close()
  assert(second:join() == "ECANCELED")
  server:close()
end)

it("has multicast over the loopback interface", function()
  do
    local receiver = assert(net.datagram("239.255.77.1:0", {reuse_address = true}))
    assert(receiver:join("239.255.77.1", "lo"))
    local other = assert(net.datagram("239.255.77.1:" .. receiver:port(), {reuse_address = true}))
    assert(other:join("239.255.77.1", "lo"))
    local sender = assert(net.datagram("127.0.0.1:0", {multicast_interface = "lo", multicast_ttl = 0}))
    local group = "239.255.77.1:" .. receiver:port()
    assert(sender:send("to all", group))
    assert(receiver:receive{timeout = 30} == "to all" and other:receive{timeout = 30} == "to all")
    assert(sender:set{multicast_loop = false} and sender:set{multicast_loop = true})
    assert(receiver:leave("239.255.77.1", "lo"))
    fails("EADDRNOTAVAIL", "leave 239.255.77.1", receiver:leave("239.255.77.1", "lo"))
    fails("EINVAL", "join 127.0.0.1", receiver:join("127.0.0.1"))
    fails("EINVAL", "without a port", receiver:join("239.255.77.1:53"))
    fails("ENODEV", "interface 'nosuch0'", receiver:join("239.255.77.1", "nosuch0"))
    fails("EAFNOSUPPORT", nil, receiver:join("ff01::1", "lo"))
    receiver:close() other:close() sender:close()
  end
  if has_v6 then
    local receiver = assert(net.datagram("[::]:0"))
    assert(receiver:join("ff01::1:77", "lo"))
    local sender = assert(net.datagram("[::]:0", {multicast_interface = "lo", multicast_ttl = 1}))
    local sent, message, code = sender:send("to all", "[ff01::1:77]:" .. receiver:port())
    assert(sent or code == "ENETUNREACH", message)  -- not every loopback interface has a route for these
    if sent then assert(receiver:receive{timeout = 30} == "to all") end
    assert(receiver:leave("ff01::1:77", "lo"))
    receiver:close() sender:close()
  end
end)

it("broadcasts when that has been asked for", function()
  local receiver = assert(net.datagram("0.0.0.0:0"))
  local sender = assert(net.datagram("127.0.0.1:0"))
  local all = "127.255.255.255:" .. receiver:port()
  fails("EACCES", "send " .. all, sender:send("to all", all))
  assert(sender:set{broadcast = true} and sender:send("to all", all))
  assert(receiver:receive{timeout = 30} == "to all")
  receiver:close() sender:close()
end)

it("has options that tell what they take, and when", function()
  local socket = assert(net.datagram("127.0.0.1:0", {
    ttl = 3, traffic_class = 0x10, receive_buffer = 65536, send_buffer = 65536, broadcast = false, errors = false,
    multicast_ttl = 2, multicast_loop = true, multicast_interface = "lo", reuse_address = true, reuse_port = true}))
  for _, case in ipairs{
    {{ttl = 0}, "option 'ttl': integer from 1 to 255 expected, got 0"},
    {{ttl = "x"}, "option 'ttl': integer from 1 to 255 expected, got x"},
    {{broadcast = 1}, "option 'broadcast': boolean expected, got 1"},
    {{multicast_interface = 1}, "option 'multicast_interface': name of an interface expected"},
    {{brodcast = true}, "unknown option 'brodcast'"}, {{no_delay = true}, "unknown option 'no_delay'"},
    {{[1] = 2}, "unknown option '1'"}, {{reuse_port = true}, "'reuse_port' is for net.datagram"},
  } do
    local ok, complaint = pcall(socket.set, socket, case[1])
    assert(not ok and complaint:find(case[2], 1, true), complaint)
  end
  fails("ENODEV", "option 'multicast_interface'", socket:set{multicast_interface = "nosuch0"})
  assert(socket:get("ttl") == 3 and socket:get("traffic_class") == 0x10 and socket:get("multicast_ttl") == 2)
  assert(socket:get("reuse_port") == true and socket:get("broadcast") == false)
  assert(socket:get("receive_buffer") >= 65536)
  assert(socket:set{broadcast = true} and socket:get("broadcast") == true)
  for _, name in ipairs{"multicast_interface", "no_delay", "nosuch"} do
    local ok, complaint = pcall(socket.get, socket, name)
    assert(not ok and complaint:find("no option '" .. name .. "' can be read", 1, true), complaint)
  end
  socket:close()
  fails("EBADF", "option 'ttl'", socket:get("ttl"))
  fails("ENOPROTOOPT", "option 'ttl'", net.datagram("unix:@evlua-ttl-" .. math.random(1 << 40), {ttl = 1}))
  fails("ENOPROTOOPT", "option 'only_v6'", net.datagram("127.0.0.1:0", {only_v6 = true}))
  if has_v6 then assert(net.datagram("[::1]:0", {only_v6 = true})):close() end
end)

it("fails with message and code, and raises for wrong arguments", function()
  local busy = assert(net.datagram("127.0.0.1:0"))
  fails("EADDRINUSE", "datagram " .. busy:local_address() .. ": address already in use",
    net.datagram(busy:local_address()))
  fails("EINVAL", "datagram localhost:53: an address like", net.datagram("localhost:53"))
  fails("EINVAL", "connect example:53: an address like", net.datagram(nil, {connect = "example:53"}))
  fails("EINVAL", "send example:53: an address like", busy:send("x", "example:53"))
  fails("EINVAL", "connect x: an address like", busy:connect("x"))
  for _, case in ipairs{
    {net.datagram, 1}, {net.datagram, nil, {conect = "x"}}, {net.datagram, nil, {connect = 1}}, {busy.send, busy},
    {busy.send, busy, "x", {}}, {busy.receive, busy, {size = 0}}, {busy.receive, busy, {size = 65537}},
    {busy.receive, busy, {limit = 1}}, {busy.connect, busy}, {busy.join, busy}, {busy.set, busy}, {busy.send, "x"},
  } do
    local ok, complaint = pcall(table.unpack(case, 1, 4))
    assert(not ok and complaint:find("bad argument", 1, true), complaint)
  end
  busy:close()
end)

it("serves many clients", function()
  local server = assert(net.datagram("127.0.0.1:0", {receive_buffer = 4 << 20}))
  local echo = evlua.spawn(function()
    for data, from in server:receive_each() do assert(server:send(data, from)) end
  end)
  local where, good = server:local_address(), 0
  evlua.scope(function(scope)
    for i = 1, 400 do
      scope:spawn(function()
        local client = assert(net.datagram(nil, {connect = where}))
        for k = 1, 3 do
          local question, answer = ("client %d message %d"):format(i, k)
          repeat  -- what is lost is sent again
            assert(client:send(question))
            repeat answer = client:receive{timeout = 2} until answer == question or answer == nil
          until answer
        end
        client:close()
        good = good + 1
      end)
    end
  end)
  assert(good == 400)
  server:close()
  echo:join()
end)

it("closes what nobody has, and replaces the stale file of a Unix socket", function()
  local path = os.tmpname() .. ".stale"
  assert(net.datagram("unix:" .. path))
  fails("EADDRINUSE", nil, net.datagram("unix:" .. path))
  collectgarbage() collectgarbage()
  assert(net.datagram("unix:" .. path)):close()
  assert(io.open(path) == nil)
end)

