-- What LuaSocket does not have: several tasks. Waits suspend one task, close and cancellation end them, nothing leaks.
local evlua, socket, fs = require "evlua", require "evlua.compat.socket", require "evlua.fs"
local dns, sync = require "evlua.dns", require "evlua.sync"
local unix = require "socket.unix"

local server = assert(socket.bind("127.0.0.1", 0))
local host, port = server:getsockname()
local function pair()
  local client = assert(socket.connect(host, port))
  return client, assert(server:accept())
end
local function wait_until_waiting(task)
  while task:status() ~= "waiting" do evlua.yield() end
end

-- An echo server and fifty clients.
do
  local listener = assert(socket.bind("127.0.0.1", 0, 100))
  local _, at = listener:getsockname()
  local accepting = evlua.spawn(function()
    while true do
      local peer, message = listener:accept()
      if not peer then return message end
      evlua.spawn(function()
        while true do
          local line, _, rest = peer:receive("*l")
          if not line then break end
          assert(peer:send(line .. "\n"))
          assert(rest == nil)
        end
        peer:close()
      end)
    end
  end)
  local list = {}
  for i = 1, 50 do
    list[i] = function()
      local client = assert(socket.connect("localhost", at))
      client:settimeout(30)
      for round = 1, 20 do
        local text = ("%d %d "):format(i, round) .. ("x"):rep(i * round * 10)
        assert(client:send(text .. "\n"))
        assert(client:receive() == text)
      end
      client:close()
    end
  end
  evlua.all(list)
  listener:close()
  assert(accepting:join() == "closed")
end

-- A sender that fills everything, a reader that takes its time; both directions at once.
do
  local client, there = pair()
  local data = ("0123456789"):rep(500000)
  local sent, got, back = evlua.all{
    function() return client:send(data) end,
    function() return there:receive(#data) end,
    function()
      assert(there:send(data))
      return true
    end,
    function()
      local parts = {}
      repeat parts[#parts + 1] = assert(client:receive(math.min(99999, #data - 99999 * #parts))) until #parts > 50
      assert(table.concat(parts) == data)
    end,
  }
  assert(sent == #data and got == data and back)
  client:close()
  there:close()
end

-- close ends the waits of others; the socket may be used again.
do
  local client, there = pair()
  local waiting = evlua.spawn(function() return client:receive(10) end)
  local second = evlua.spawn(function() return client:receive(10) end)
  wait_until_waiting(waiting)
  wait_until_waiting(second)
  assert(client:close() == 1)
  for _, task in ipairs{waiting, second} do
    local none, message, part = task:join()
    assert(none == nil and message == "closed" and part == "", message)
  end
  assert(client:getfd() == -1 and there:receive() == nil)
  there:close()
  assert(client:connect(host, port) == 1)
  local again = assert(server:accept())
  assert(again:send("line\n") and client:receive() == "line")
  again:close()
  client:close()
  local accepting = evlua.spawn(function() return server:accept() end)
  wait_until_waiting(accepting)
  server:close()
  assert(select(2, accepting:join()) == "closed")
  -- With nobody waiting the address is free when close returns.
  server = assert(socket.bind("127.0.0.1", 0))
  local _, at = server:getsockname()
  for _ = 1, 20 do
    server:close()
    server = assert(socket.tcp4())
    assert(server:bind("127.0.0.1", at), "still in use")
    assert(server:listen())
  end
  host, port = server:getsockname()
end

-- Time limits and cancellation.
do
  local client, there = pair()
  local told
  local none, _, code = evlua.timeout(0.05, function()
    told = select(2, client:receive())
    return true
  end)
  assert(told == "timed out", told)  -- LuaSocket's "timeout" is that of the socket's own time
  local function receives() return assert(client:receive()) end
  local ok, message = pcall(evlua.timeout, 0.05, receives)
  assert(not ok and message:find("timed out", 1, true), message)
  client:settimeout(0.01)
  ok, message = pcall(evlua.timeout, 100, receives)
  assert(not ok and message:find("timeout", 1, true), message)
  assert(select(2, evlua.timeout(100, client.receive, client)) == "timeout")
  client:settimeout(nil)
  assert(none == true or code == "ETIMEDOUT")
  none, _, code = evlua.timeout(0.05, function() socket.select({client}, nil) socket.sleep(10) end)
  assert(none == nil and code == "ETIMEDOUT")
  local task = evlua.spawn(function() return client:receive() end)
  wait_until_waiting(task)
  task:cancel()
  task:join()
  assert(there:send("still works\n") and client:receive() == "still works")
  client:close()
  there:close()
end

-- Names that do not exist, for which LuaSocket would ask servers.
do
  local unknown = "host or service not provided, or not known"
  assert(select(2, socket.connect("no-such-host.invalid", 80)) == unknown)
  assert(select(2, socket.dns.getaddrinfo("no-such-host.invalid")) == unknown)
  assert(select(2, socket.dns.toip("no-such-host.invalid")) == "host not found")
  assert(select(2, socket.bind("no-such-host.invalid", 0)) == unknown)
  for _, wrong in ipairs{"", "127.0.0.1\0x", ("x"):rep(300), "a b", "*"} do
    assert(select(2, socket.connect(wrong, 80)) == unknown, wrong)
  end
  assert(select(2, socket.connect("127.0.0.1", "no-such-service")) == "service not supported for socket type")
end

-- A connect that fails leaves no descriptor behind, also without the collector.
do
  local function descriptors() return #assert(fs.list("/proc/self/fd")) end
  local nobody = assert(socket.bind("127.0.0.1", 0))
  local _, at = nobody:getsockname()
  nobody:close()
  collectgarbage("stop")
  local before = descriptors()
  for _ = 1, 20 do
    assert(select(2, socket.connect("127.0.0.1", at)) == "connection refused")
    assert(select(2, socket.connect("127.0.0.1", at, "192.0.2.1", 0)))
  end
  assert(descriptors() == before, "descriptors were left open")
  collectgarbage("restart")
end

-- A close while the name is looked up stays one.
do
  local client, listener = socket.tcp(), assert(socket.bind("127.0.0.1", 0))
  local _, at = listener:getsockname()
  local lookup, found = dns.lookup, sync.event()
  function dns.lookup(...)
    found:wait()
    return lookup(...)
  end
  for _, call in ipairs{client.connect, client.bind} do
    found:clear()
    local task = evlua.spawn(call, client, "localhost", at)
    wait_until_waiting(task)
    assert(client:close())
    found:set()
    assert(select(2, task:join()) == "closed" and client:getfd() == -1)
    client = socket.tcp()
  end
  dns.lookup = lookup
  listener:close()
end

-- What is no number, or too large a one.
do
  local nan = 0 / 0
  local client, there = pair()
  client:settimeout(nan)
  assert(select(2, client:receive()) == "timeout")
  client:settimeout(1, "t")
  client:settimeout(nan, "b")
  assert(select(2, client:receive()) == "timeout")
  assert(select(3, socket.select({client}, nil, nan)) == "timeout")
  socket.sleep(nan)
  assert(not pcall(socket.skip, nan, "a") and not pcall(socket.skip, 2^70, "a"))
  -- Where LuaSocket gives out what lies below its arguments: not more than there is.
  assert(select("#", socket.skip(-7, "a")) == 2 and select(2, socket.skip(math.mininteger >> 1, "a")) == nil)
  for _, wrong in ipairs{"skip", "sleep"} do
    local _, message = pcall(socket[wrong], "x")
    assert(message:find("bad argument #1", 1, true) and not message:find("[evlua", 1, true), message)
  end
  local master = assert(socket.tcp4())
  assert(master:bind("127.0.0.1", 0) and master:listen(nan))
  master:close()
  master:setfd(2^40)
  assert(not master:getsockname())
  master:setfd(nan)
  assert(master:getfd() == -1)
  -- The nearest that the system takes, where C's conversion is undefined.
  for _, number in ipairs{1e300, -1e300, nan} do
    client:setoption("recv-buffer-size", number)
    client:setoption("linger", {on = false, timeout = number})
  end
  assert(client:setoption("tcp-keepidle", 5.9) and client:getoption("tcp-keepidle") == 5)
  client:close()
  there:close()
end

-- select in several tasks, with sockets of theirs.
do
  local clients, peers, tasks = {}, {}, {}
  for i = 1, 20 do clients[i], peers[i] = pair() end
  for i = 1, 4 do
    tasks[i] = evlua.spawn(function()
      local mine, count = {}, 0
      for at = i, 20, 4 do mine[#mine + 1] = clients[at] end
      while #mine > 0 do
        local readable, _, message = socket.select(mine, nil, 30)
        assert(not message)
        for _, client in ipairs(readable) do
          assert(client:receive() == "hello")
          count = count + 1
          for at = #mine, 1, -1 do if mine[at] == client then table.remove(mine, at) end end
        end
      end
      return count
    end)
  end
  for _, task in ipairs(tasks) do wait_until_waiting(task) end
  for i = 20, 1, -1 do
    peers[i]:send("hello\n")
    evlua.yield()
  end
  for _, task in ipairs(tasks) do assert(task:join() == 5) end
  for i = 1, 20 do clients[i]:close() peers[i]:close() end
end

-- A socket that is closed while others wait for it in select is ready: it says "closed" to whoever calls it.
do
  local client, there = pair()
  local other, there2 = pair()
  for _, seconds in ipairs{false, 30} do
    local waiting = evlua.spawn(function() return socket.select({client, other}, {}, seconds or nil) end)
    local both = evlua.spawn(function() return socket.select({other}, {client}, seconds or nil) end)
    wait_until_waiting(waiting)
    assert(both:join()[1] == nil)  -- client is writable at once
    client:close()
    local again = assert(socket.tcp4())  -- has most likely got the number
    local readable, writable, message = waiting:join()
    assert(#readable == 1 and readable[1] == client and #writable == 0 and message == nil)
    assert(select(2, client:receive()) == "closed")
    assert(select(3, socket.select({client}, nil, 0)) == "timeout", "closed ones are left out")
    again:close()
    there:close()
    client, there = pair()
  end
  -- setfd(-1) as well; and a reader of the same socket.
  local reading = evlua.spawn(function() return client:receive() end)
  local waiting = evlua.spawn(socket.select, {client})
  wait_until_waiting(waiting)
  wait_until_waiting(reading)
  local descriptor = client:getfd()
  client:setfd(-1)
  client:setfd(descriptor)
  client:close()  -- while the waits are ending
  assert(select(2, reading:join()) == "closed" and #waiting:join() == 1)
  there:settimeout(30)
  assert(select(2, there:receive()) == "closed", "the descriptor is still open")
  for _, one in ipairs{there, other, there2} do one:close() end
end

-- Datagrams, and sockets of both kinds over a path.
do
  local a, b = socket.udp(), socket.udp()
  assert(a:setsockname("127.0.0.1", 0) and b:setsockname("127.0.0.1", 0))
  local to, at = b:getsockname()
  local receiver = evlua.spawn(function()
    local sum = 0
    for _ = 1, 100 do sum = sum + b:receive() end
    return sum
  end)
  for i = 1, 100 do
    assert(a:sendto(tostring(i), to, at))
    if i % 10 == 0 then evlua.yield() end
  end
  assert(receiver:join() == 5050)
  a:close()
  local waiting = evlua.spawn(function() return b:receivefrom() end)
  wait_until_waiting(waiting)
  b:close()
  assert(select(2, waiting:join()) == "closed")

  local path = os.tmpname() .. ".sock"
  local listener = unix()
  assert(listener:bind(path) and listener:listen())
  local answer = evlua.spawn(function()
    local peer = assert(listener:accept())
    local text = peer:receive("*a")
    peer:close()
    return text
  end)
  local client = unix()
  assert(client:connect(path) and client:send("over a path") and client:close())
  assert(answer:join() == "over a path")
  listener:close()
  os.remove(path)
end

-- Where nothing can wait, close still closes; what is dropped is closed by the collector.
do
  local client, there = pair()
  table.sort({1, 2}, function(a, b)
    client:close()
    return a < b
  end)
  assert(client:getfd() == -1 and there:receive() == nil)
  there:close()
  client, there = pair()
  client = nil
  collectgarbage()
  collectgarbage()
  assert(client == nil and select(2, there:receive()) == "closed")
  there:close()
end

-- getfd, setfd: the descriptor changes its owner.
do
  local client, there = pair()
  local other = socket.tcp()
  assert(other:connect(host, port))
  local unwanted = assert(server:accept())
  other:close()
  other:setfd(client:getfd())
  client:setfd(-1)
  assert(client:getfd() == -1 and other:send("moved\n") and there:receive() == "moved")
  local waiting = evlua.spawn(function() return other:receive() end)
  wait_until_waiting(waiting)
  other:setfd(-1)
  assert(select(2, waiting:join()) == "closed")
  unwanted:close()
  there:close()
end
server:close()

-- What is no socket is refused everywhere, also by what a metatable shows.
for _, class in ipairs{socket.tcp(), socket.udp(), assert(unix.dgram())} do
  local meta = getmetatable(class)
  for _, wrong in ipairs{5, "x", {}, io.stdout} do
    assert(not pcall(meta.__gc, wrong))
    for name, method in pairs(meta.__index) do
      if type(method) == "function" then assert(not pcall(method, wrong), name) end
    end
  end
end
print("done")
