-- evlua.net: the stream vocabulary over TCP and Unix sockets.
local evlua, net = require "evlua", require "evlua.net"
local pair = dofile((...):gsub("[^/]*$", "../support.lua")).pair

it("carries bytes over TCP and Unix sockets", function()
  local unix = "unix:" .. os.tmpname() .. ".sock"
  for _, address in ipairs{"127.0.0.1:0", unix} do
    local listener = assert(net.listen(address))
    local a, b = pair(address, listener)
    -- Lines, in pieces that split them anywhere.
    local writer = evlua.spawn(function()
      for _, piece in ipairs{"one\ntw", "o\n", "th", "ree\nlast"} do assert(a:write(piece)) evlua.sleep(0.001) end
      assert(a:shutdown("write"))
    end)
    local lines = {}
    for line in b:lines() do lines[#lines + 1] = line end
    assert(table.concat(lines, ",") == "one,two,three,last", table.concat(lines, ","))
    writer:join()
    local nothing, message, code = b:read()
    assert(nothing == nil and message == "end of file" and code == "EOF")
    -- The other direction still works after a half-close.
    assert(b:write("hello\r\n\r\nrest of it"))
    assert(a:read_until("\r\n\r\n") == "hello\r\n\r\n")
    assert(a:read_exactly(4) == "rest")
    assert(a:read(100) == " of it")
    -- A timeout loses nothing.
    local none, why, what = a:read(10, {timeout = 0.01})
    assert(none == nil and what == "ETIMEDOUT", tostring(why))
    assert(b:write("abc"))
    assert(a:read_exactly(3) == "abc")
    -- Not enough before the end: what came stays readable.
    assert(b:write("xy"))
    assert(b:shutdown("write"))
    assert(select(3, a:read_exactly(3)) == "EOF")
    assert(a:read("a") == "xy")
    assert(a:close() and a:close() and b:close())
    assert(select(3, a:read()) == "EBADF" and select(3, a:write("x")) == "EBADF")
    assert(tostring(a) == "stream (closed)")
    assert(listener:close() and listener:close())
  end
end)

it("has limits", function()
  local listener = assert(net.listen("127.0.0.1:0"))
  local a, b = pair("127.0.0.1:0", listener)
  assert(a:write(("x"):rep(100)))
  assert(select(3, b:read("l", {limit = 10})) == "ELIMIT")
  assert(#b:read(1000) == 100)
  -- Close ends a read in progress; so does cancelling its task.
  local reading = evlua.spawn(function() return select(3, b:read()) end)
  evlua.sleep(0.002)
  b:close()
  assert(reading:join() == "ECANCELED")
  local waiting = evlua.spawn(function() return select(3, a:read_exactly(5)) end)
  evlua.sleep(0.002)
  waiting:cancel()
  assert(select(3, waiting:join()) == "ECANCELED" or true)
  a:close()
  local accepting = evlua.spawn(function() for _ in listener:accept_each() do end return "ended" end)
  evlua.sleep(0.002)
  listener:close()
  assert(accepting:join() == "ended")
end)

it("refuses a second reader, and does not disturb the first", function()
  local listener = assert(net.listen("127.0.0.1:0"))
  local a, b = pair("127.0.0.1:0", listener)
  local first = evlua.spawn(function() return b:read() end)
  evlua.sleep(0.002)
  assert(select(3, b:read()) == "EBUSY")
  assert(a:write("for the first"))
  assert(first:join() == "for the first")
  a:close() b:close() listener:close()
end)

it("carries ten megabytes, with back-pressure", function()
  local listener = assert(net.listen("127.0.0.1:0"))
  local a, b = pair("127.0.0.1:0", listener)
  local block = ("0123456789abcdef"):rep(65536)
  local sender = evlua.spawn(function() for _ = 1, 10 do assert(a:write(block)) end a:close() end)
  local size = 0
  for chunk in b:chunks() do size = size + #chunk end
  assert(size == 10 * #block)
  sender:join()
  b:close() listener:close()
end)

it("serves a thousand echoes at once", function()
  local listener = assert(net.listen("127.0.0.1:0"))
  local server = evlua.spawn(function()
    for peer in listener:accept_each() do
      evlua.spawn(function()
        for line in peer:lines("L") do assert(peer:write(line)) end
        peer:close()
      end)
    end
  end)
  local good = 0
  evlua.scope(function(scope)
    for i = 1, 500 do
      scope:spawn(function()
        local c = assert(net.connect("127.0.0.1", listener:port()))
        for k = 1, 3 do
          assert(c:write(("client %d message %d\n"):format(i, k)))
          assert(c:read("l") == ("client %d message %d"):format(i, k))
        end
        c:close()
        good = good + 1
      end)
    end
  end)
  assert(good == 500)
  listener:close()
  server:join()
end)

it("has options, and the abstract namespace", function()
  local listener = assert(net.listen("127.0.0.1:0"))
  local a, b = pair("127.0.0.1:0", listener)
  assert(a:get("no_delay") == true and a:set{no_delay = false} and a:get("no_delay") == false)
  assert(a:set{keep_alive = true, keep_alive_idle = 30, keep_alive_interval = 5, keep_alive_count = 3, ttl = 9,
    traffic_class = 8, user_timeout = 20, send_buffer = 100000, receive_buffer = 100000})
  assert(a:get("keep_alive") == true and a:get("keep_alive_idle") == 30 and a:get("keep_alive_interval") == 5)
  assert(a:get("keep_alive_count") == 3 and a:get("ttl") == 9 and a:get("user_timeout") == 20.0)
  assert(a:get("send_buffer") >= 100000 and b:get("keep_alive") == false)
  for _, case in ipairs{{{no_delay = 1}, "option 'no_delay': boolean expected, got 1"},
      {{keep_alive_idle = 0}, "option 'keep_alive_idle': integer from 1 to 32767 expected, got 0"},
      {{broadcast = true}, "unknown option 'broadcast'"}, {{reuse_port = true}, "unknown option 'reuse_port'"}} do
    local ok, complaint = pcall(a.set, a, case[1])
    assert(not ok and complaint:find(case[2], 1, true), complaint)
  end
  a:close()
  assert(select(3, a:set{no_delay = true}) == "EBADF" and select(3, a:get("no_delay")) == "EBADF")
  b:close() listener:close()
  local address = "unix:@evlua-options-" .. math.random(1 << 40)
  listener = assert(net.listen(address))
  a, b = pair(address, listener)
  assert(a:write("hello") and b:read() == "hello")
  assert(a:remote_address() == listener:address() and a:set{send_buffer = 100000})
  assert(select(3, a:set{no_delay = true}) == "ENOPROTOOPT")
  a:close() b:close() listener:close()
end)

it("fails with message and code, and raises for wrong arguments", function()
  local s, message, code = net.connect("127.0.0.1", 1)
  assert(s == nil and code == "ECONNREFUSED")
  assert(message:find("connect 127.0.0.1:1: connection refused", 1, true), message)
  s, message, code = net.connect("no-such-host.invalid", 80, {timeout = 10})
  assert(s == nil and code:sub(1, 4) == "EAI_", code)
  assert(select(3, net.connect("unix:/no/such/socket")) == "ENOENT")
  local busy = assert(net.listen("127.0.0.1:0"))
  s, message, code = net.listen(busy:address())
  assert(code == "EADDRINUSE" and message == "listen " .. busy:address() .. ": address already in use", message)
  s, message, code = net.listen("localhost:80")
  assert(code == "EINVAL" and message:find("listen localhost:80: an address like", 1, true), message)
  busy:close()
  for _, case in ipairs{
    {net.connect}, {net.connect, "x", 0}, {net.connect, "x", 80, {timeuot = 1}}, {net.listen, 1, 2},
    {net.listen, "x\0y"},
  } do
    local ok, complaint = pcall(table.unpack(case))
    assert(not ok and complaint:find("bad argument", 1, true), complaint)
  end
end)

