-- evlua.sync: what each object promises, one after another, with several tasks, cancellation and time running out.
local evlua, sync, net = require "evlua", require "evlua.sync", require "evlua.net"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local code_of, raises, waits = support.code_of, support.raises, support.waits

local function spawn(...) return waits(evlua.spawn(...)) end

it("hands values over a channel in order, and closes it", function()
  local c = sync.channel(2)
  assert(c:send(1) and c:send(2) and c:size() == 2)
  assert(code_of(c:send(3, {timeout = 0.001})) == "ETIMEDOUT")
  local sender = spawn(function() return c:send(3) end)
  assert(c:receive() == 1 and c:size() == 2)  -- the sender's value has come after
  assert(sender:join() == true)
  c:close()
  c:close()
  assert(c:closed() and code_of(c:send(4)) == "EPIPE")
  local rest = {}
  for v in c do rest[#rest + 1] = v end
  assert(table.concat(rest, ",") == "2,3")
  assert(code_of(c:receive()) == "EOF")
  assert(tostring(c):find("^channel %(closed, 0 of 2%)"))
end)

it("hands values over without a buffer, by reference", function()
  local c = sync.channel()
  local object = setmetatable({}, {__index = error})  -- by reference: nothing is looked at
  local receiver = spawn(function() return c:receive() end)
  assert(c:send(object) and rawequal(receiver:join(), object))
  local sender = spawn(c.send, c, false)
  assert(c:size() == 0 and c:receive() == false and sender:join() == true)
  assert(code_of(c:receive{timeout = 0.001}) == "ETIMEDOUT")
  local a, b = spawn(c.receive, c), spawn(c.receive, c)
  c:send("first")
  c:send("second")
  assert(a:join() == "first" and b:join() == "second")
end)

it("wakes both sides of a channel that is closed", function()
  -- closing wakes both sides
  local c = sync.channel()
  local receiver = spawn(c.receive, c)
  c:close()
  assert(code_of(receiver:join()) == "EOF")
  c = sync.channel()
  local sender = spawn(c.send, c, 1)
  c:close()
  assert(code_of(sender:join()) == "EPIPE")
end)

it("keeps the order while the beginning of a channel's ring is anywhere", function()
  -- a ring that grows while its beginning is anywhere
  for capacity = 1, 20 do
    local c = sync.channel(capacity)
    local sent, received = 0, 0
    for _ = 1, 200 do
      for _ = 1, math.random(0, capacity - c:size()) do
        sent = sent + 1
        assert(c:send(sent))
      end
      for _ = 1, math.random(0, c:size()) do
        received = received + 1
        assert(c:receive() == received)
      end
    end
  end
end)

it("does not keep what was received", function()
  -- what was received is not kept
  local kept = setmetatable({}, {__mode = "k"})
  local c = sync.channel(8)
  for _ = 1, 3 do
    for _ = 1, 8 do
      local t = {}
      kept[t] = true
      c:send(t)
    end
    for _ = 1, 8 do c:receive() end
  end
  local receiver = spawn(function() return type(c:receive()) end)
  local t = {}
  kept[t] = true
  c:send(t)
  t = nil
  assert(receiver:join() == "table")
  collectgarbage()
  assert(next(kept) == nil)
end)

it("passes over a waiter that is cancelled; one that has been handed a value has it", function()
  -- a waiter that is cancelled is passed over; one that has been handed a value has it
  local c = sync.channel()
  local a, b = spawn(c.receive, c), spawn(c.receive, c)
  a:cancel()
  c:send("x")
  assert(code_of(a:join()) == "ECANCELED" and b:join() == "x")
  a = spawn(c.receive, c)
  c:send("y")
  a:cancel()
  assert(a:join() == "y")
  a, b = spawn(c.send, c, 1), spawn(c.send, c, 2)
  a:cancel()
  assert(c:receive() == 2 and b:join() == true and code_of(a:join()) == "ECANCELED")
end)

it("names wrong arguments of channels", function()
  raises("bad argument #1 to 'evlua.sync.channel' (number from 0 to", sync.channel, -1)
  raises("bad argument #1 to 'send' (a value expected", function() sync.channel(1):send(nil) end)
  raises("unknown option 'timout'", function() sync.channel(1):send(1, {timout = 1}) end)
  raises("option 'timeout': number expected, got string", function() sync.channel(1):receive{timeout = "x"} end)
end)

it("selects a channel that is ready, fairly", function()
  local a, b = sync.channel(1), sync.channel(1)
  a:send("a")
  local case, value = sync.select{b, a}
  assert(case == 2 and value == "a")
  case, value = sync.select{a, {b, "b"}}
  assert(case == 2 and value == true and b:receive() == "b")
  assert(code_of(sync.select({a, b}, {timeout = 0.001})) == "ETIMEDOUT")
  case, value = sync.select{a, 0.001, 100}
  assert(case == 2 and value == true)
  local task = spawn(sync.select, {a, b, {sync.channel(), 1}})
  b:send("later")
  assert(select("#", task:join()) == 2 and select(2, task:join()) == "later")
  local first = 0
  for _ = 1, 400 do  -- fair
    a:send(1)
    b:send(2)
    local ready, got = sync.select{a, b}
    first = first + (ready == 1 and 1 or 0)
    assert(got == ready);
    (ready == 1 and b or a):receive()
  end
  assert(first > 100 and first < 300, first)
  a:close()
  local which, none, message, code = sync.select{a, b}
  assert(which == 1 and none == nil and message == "end of file" and code == "EOF")
  which, none, message, code = sync.select{{a, 1}}
  assert(which == 1 and none == nil and message == "the channel is closed" and code == "EPIPE")
  task = spawn(sync.select, {b})
  task:cancel()
  assert(code_of(task:join()) == "ECANCELED")
  b:send("not lost")
  assert(b:receive() == "not lost")
end)

it("does not let a select meet itself", function()
  -- the same channel both ways: not with itself
  local c = sync.channel()
  local task = spawn(sync.select, {c, {c, "own"}})
  assert(c:receive() == "own")
  assert(task:join() == 2)
  task = spawn(sync.select, {{c, "own"}, c})
  c:send("other")
  assert(select(2, task:join()) == "other")
end)

it("keeps what a select refers to, whatever becomes of its table", function()
  -- what a select refers to stays, whatever becomes of its table
  local cases = {sync.channel(), sync.event()}
  local task = spawn(sync.select, cases)
  local event = cases[2]
  cases[1], cases[2] = nil, nil
  collectgarbage()
  event:set()
  assert(task:join() == 2)
  assert(sync.select{event} == 1)
end)

it("selects sockets, and does not take what comes", function()
  -- sockets: what comes is not taken
  local listener = assert(net.listen("127.0.0.1:0"))
  local quit = sync.channel()
  local chosen = spawn(sync.select, {listener, quit})
  local client = assert(net.connect("127.0.0.1", listener:port()))
  assert(chosen:join() == 1)
  local server = assert(listener:accept())
  chosen = spawn(sync.select, {quit, server})
  client:write("hello")
  assert(chosen:join() == 2)
  assert(sync.select{server} == 1)
  assert(server:read(100) == "hello")
  chosen = spawn(sync.select, {quit, server, listener})
  local busy = evlua.spawn(function() return server:read(1) end)
  assert(code_of(busy:join()) == "EBUSY")
  assert(quit:send("now") == true and select(2, chosen:join()) == "now")
  client:write("again")  -- the select has left no reader behind
  assert(server:read(100) == "again")
  assert(select(3, sync.select({server, listener}, {timeout = 0.001})) == "ETIMEDOUT")
  chosen = spawn(sync.select, {server, server})
  local index, none, message, code = chosen:join()
  assert(index == 2 and none == nil and message and code == "EBUSY")
  chosen = spawn(sync.select, {quit, listener})
  listener:close()  -- meanwhile: nobody waits for what is closed
  index, none, message, code = chosen:join()
  assert(index == 2 and none == true and message == nil and code_of(listener:accept()) == "EBADF")
  index, none = sync.select{quit, listener}
  assert(index == 2 and none == true)
  client:close()
  assert(sync.select{server, quit} == 1)
  assert(code_of(server:read(1)) == "EOF")
  assert(sync.select{quit, server} == 2)
  server:close()
  assert(sync.select{quit, server} == 2 and code_of(server:read(1)) == "EBADF")
  local other = assert(net.listen("127.0.0.1:0"))
  local near = assert(net.connect("127.0.0.1", other:port()))
  chosen = spawn(sync.select, {quit, near})
  near:close()
  index, none, message = chosen:join()
  assert(index == 2 and none == true and message == nil and code_of(near:read(1)) == "EBADF")
  other:close()
end)

it("selects datagram sockets beside streams, and receives nothing", function()
  -- datagrams beside streams: nothing is received by the wait
  local socket, sender = assert(net.datagram("127.0.0.1:0")), assert(net.datagram("127.0.0.1:0"))
  local listener = assert(net.listen("127.0.0.1:0"))
  local client = assert(net.connect("127.0.0.1", listener:port()))
  local server = assert(listener:accept())
  assert(code_of(sync.select({socket, server}, {timeout = 0.001})) == "ETIMEDOUT")
  local chosen = spawn(sync.select, {server, socket, listener})
  assert(code_of(evlua.spawn(function() return socket:receive() end):join()) == "EBUSY")
  assert(sender:send("one", socket:local_address()) and sender:send("two", socket:local_address()))
  assert(chosen:join() == 2)
  assert(sync.select{server, socket} == 2)
  assert(socket:receive{timeout = 30} == "one")
  assert(sync.select({socket}, {timeout = 30}) == 1)  -- received together with the first, perhaps
  assert(socket:receive{timeout = 30} == "two")
  chosen = spawn(sync.select, {socket, server})
  assert(client:write("x") and chosen:join() == 2)
  assert(sender:send("three", socket:local_address()) and socket:receive{timeout = 30} == "three")  -- no reader is left
  server:read(1)
  chosen = spawn(sync.select, {socket, socket})
  local index, none, message, code = chosen:join()
  assert(index == 2 and none == nil and message and code == "EBUSY")
  local receiver = evlua.spawn(function() return (socket:receive{timeout = 30}) end)
  while receiver:status() ~= "waiting" do evlua.yield() end
  assert(sync.select{socket} == 1)  -- a receive would fail
  assert(sender:send("four", socket:local_address()) and receiver:join() == "four")
  chosen = spawn(sync.select, {server, socket})
  socket:close()
  index, none, message, code = chosen:join()
  assert(index == 2 and none == true and message == nil and code_of(socket:receive()) == "EBADF")
  assert(sync.select{server, socket} == 2)
  for _, open in ipairs{sender, client, server, listener} do open:close() end
end)

it("names the types of objects in messages", function()
  -- what messages call the types of objects
  local channel, mutex = sync.channel(), sync.mutex()
  raises("channel expected, got mutex", channel.receive, mutex)
  raises("wait group expected, got channel", sync.wait_group().done, channel)
  raises("read-write lock expected, got table", sync.rwlock().lock_read, {})
  raises("event expected, got nil", sync.event().set, nil)
  raises("number expected, got channel", math.floor, channel)
  raises("task expected, got FILE*", evlua.spawn(function() end).join, io.stdout)
  local types = 0
  for name, meta in pairs(debug.getregistry()) do
    local methods = type(name) == "string" and name:find("^evlua%.") and meta.__index
    if type(methods) == "table" then
      types = types + 1
      for method, f in pairs(methods) do
        if debug.getinfo(f, "S").what == "C" then
          local ok, message = pcall(f, mutex ~= nil and {} or nil)
          assert(not ok and not message:find("evlua.", 1, true), name .. ":" .. method .. ": " .. tostring(message))
        end
      end
    end
  end
  assert(types > 8, types)
end)

it("names wrong cases of a select", function()
  raises("bad argument #1 to 'evlua.sync.select' (a list of cases expected", sync.select, {})
  raises("element 1: {channel, value} expected", sync.select, {{sync.channel()}})
  raises("element 2: a channel, {channel, value}, an event", sync.select, {1, "x"})
  raises("seconds", sync.select, {0 / 0})
end)

it("gives a mutex to one task, in order", function()
  do
    local m = sync.mutex()
    local order = {}
    assert(m:lock() == true and m:locked())
    raises("this task has the mutex already", m.lock, m)
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = spawn(function()
        if not m:lock() then return end
        order[#order + 1] = i
        evlua.yield()
        m:unlock()
      end)
    end
    tasks[2]:cancel()
    assert(code_of(m.lock, m) == nil)
    m:unlock()
    tasks[1]:join()
    tasks[3]:join()
    assert(table.concat(order) == "13" and not m:locked())
    raises("the mutex is not locked", m.unlock, m)
    assert(m:try_lock() and not m:try_lock())
    raises("another task has the mutex", function() evlua.spawn(m.unlock, m):join() end)
    assert(code_of(evlua.spawn(m.lock, m, {timeout = 0.001}):join()) == "ETIMEDOUT")
    m:unlock()
    assert(select("#", m:with(function(...) assert(m:locked()) return ... end, 1, nil, nil)) == 3)
    raises("inside", m.with, m, error, "inside")
    assert(not m:locked())
    local task = spawn(m.with, m, evlua.sleep, 100)
    assert(m:locked())
    task:cancel()
    task:join()
    assert(not m:locked())
    m:lock()
    task = spawn(m.with, m, print)
    task:cancel()
    assert(code_of(task:join()) == "ECANCELED")
    m:unlock()
    assert(m:try_lock())
    m:unlock()
    assert(m:with(function() m:unlock() return "unlocked within" end) == "unlocked within")
    -- Whoever waits has it next, before one who comes just then.
    m:lock()
    task = spawn(m.lock, m)
    m:unlock()
    assert(not m:try_lock())
    task:join()
    raises("another task has the mutex", m.unlock, m)  -- it has ended with it
    if not (os.getenv("EVLUA_SANITIZE") or ""):find("thread") then  -- TSan holds signals back: nothing ends a slice
      m = sync.mutex()
      assert(code_of(evlua.limit({cpu = 0.02}, m.with, m, function() while true do end end)) == "ELIMIT")
      assert(not m:locked())
    end
  end
  raises("bad argument #1 to 'with' (function expected", function() sync.mutex():with(1) end)
end)

it("gives a read-write lock to many readers or one writer", function()
  local l = sync.rwlock()
  assert(l:lock_read() and l:lock_read() and not l:try_lock_write())
  local order = {}
  local function note(name) order[#order + 1] = name end
  local writer = spawn(l.with_write, l, note, "writer")
  assert(not l:try_lock_read())  -- it would overtake the writer
  local reader = spawn(l.with_read, l, note, "reader")
  local last = spawn(l.with_write, l, note, "last")
  l:unlock_read()
  l:unlock_read()
  writer:join() reader:join() last:join()
  assert(table.concat(order, " ") == "writer reader last")
  l:lock_read()
  writer = spawn(l.lock_write, l)
  reader = spawn(l.with_read, l, note, "after a writer that gave up")
  writer:cancel()
  reader:join()
  l:unlock_read()
  raises("nobody reads", l.unlock_read, l)
  raises("nobody writes", l.unlock_write, l)
  assert(l:lock_write() and not l:try_lock_read() and not l:try_lock_write())
  raises("this task writes already", l.lock_write, l)
  raises("this task writes already", l.lock_read, l)
  raises("another task writes", function() evlua.spawn(l.unlock_write, l):join() end)
  assert(code_of(evlua.spawn(l.lock_read, l, {timeout = 0.001}):join()) == "ETIMEDOUT")
  local readers = {spawn(l.lock_read, l), spawn(l.lock_read, l)}
  l:unlock_write()
  for _, task in ipairs(readers) do assert(task:join()) end
  assert(tostring(l):find("2 readers"))
  l:unlock_read() l:unlock_read()
  raises("x", l.with_write, l, error, "x")
  raises("x", l.with_read, l, error, "x")
  assert(l:try_lock_write())
end)

it("counts with a semaphore", function()
  local s = sync.semaphore(3)
  assert(s:acquire() and s:acquire(2) and s:available() == 0 and not s:try())
  local big, small = spawn(s.acquire, s, 3), spawn(s.acquire, s)
  s:release()
  assert(s:available() == 1 and not s:try())  -- in order: the big one is first
  big:cancel()
  assert(small:join() == true and s:available() == 0)
  assert(code_of(big:join()) == "ECANCELED")
  assert(code_of(s:acquire{timeout = 0.001}) == "ETIMEDOUT" and code_of(s:acquire(2, {timeout = 0}))== "ETIMEDOUT")
  s:release(3)
  raises("more is released than was acquired", s.release, s)
  raises("number from 1 to 3 expected", s.acquire, s, 4)
  raises("within", s.with, s, error, "within")
  assert(s:with(s.available, s) == 2 and s:available() == 3)
  local running, most = 0, 0
  evlua.map({1, 2, 3, 4, 5, 6, 7, 8, 9}, function()
    s:with(function()
      running = running + 1
      most = math.max(most, running)
      evlua.sleep(0.001)
      running = running - 1
    end)
  end, {concurrency = 9})
  assert(most == 3 and s:available() == 3)
  raises("number from 1 to", sync.semaphore, 0)
end)

it("wakes all who wait for an event", function()
  local e = sync.event()
  local a, b, c = spawn(e.wait, e), spawn(e.wait, e), spawn(e.wait, e)
  c:cancel()
  assert(not e:is_set())
  e:set()
  e:clear()  -- does not take back what woke
  assert(a:join() == true and b:join() == true and code_of(c:join()) == "ECANCELED")
  assert(code_of(e:wait{timeout = 0.001}) == "ETIMEDOUT")
  e:set()
  assert(e:is_set() and e:wait())
end)

it("waits for a group", function()
  local g = sync.wait_group()
  assert(g:wait())
  g:add(2)
  g:add()
  local waiter = spawn(g.wait, g)
  for _ = 1, 3 do
    assert(waiter:status() == "waiting" and code_of(g:wait{timeout = 0}) == "ETIMEDOUT")
    evlua.spawn(g.done, g):join()
  end
  assert(waiter:join() == true and g:count() == 0)
  raises("more is done than was added", g.done, g)
  raises("number from 0", g.add, g, -1)
end)

it("does a thing once", function()
  local calls = 0
  local get = sync.once(function(x)
    calls = calls + 1
    evlua.sleep(0.001)
    if x == "bad" then error("no value") end
    return x, nil, 3
  end)
  raises("no value", get, "bad")
  local tasks = {}
  for i = 1, 5 do tasks[i] = evlua.spawn(get, i) end
  for i = 1, 5 do
    local x, none, three = tasks[i]:join()
    assert(x == 1 and none == nil and three == 3)
  end
  assert(calls == 2 and select("#", get()) == 3)
  local slow = sync.once(function() evlua.sleep(0.05) return "slow" end)
  local first, second = spawn(slow), spawn(slow)
  second:cancel()
  assert(code_of(second:join()) == "ECANCELED" and first:join() == "slow")
  local own
  own = sync.once(function() return (own()) end)
  local message = raises("the function of sync.once calls itself, before it has returned anything", own)
  assert(message:find("sync_test.lua:%d+: the function of"), message)
  -- By way of another one; and when that is left out, the next call gets a result.
  local around, depth = nil, 0
  local other = sync.once(function() return around() end)
  around = sync.once(function()
    depth = depth + 1
    return depth < 3 and other() or "value"
  end)
  raises("the function of sync.once calls itself", around)
  raises("the function of sync.once calls itself", other)
  assert(around() == "value" and other() == "value" and depth == 3)
  raises("bad argument #1 to 'evlua.sync.once' (function expected, got number)", sync.once, 1)
end)

it("limits the rate", function()
  local l = sync.limiter{rate = 1000, burst = 10}
  assert(l:try(10) and not l:try(10))
  local began = evlua.now()
  local order, tasks = {}, {}
  for i = 1, 3 do
    tasks[i] = evlua.spawn(function()
      assert(l:wait(10))
      order[#order + 1] = i
    end)
  end
  for i = 1, 3 do tasks[i]:join() end
  assert(table.concat(order) == "123" and evlua.now() - began >= 0.025)
  local slow = sync.limiter{rate = 0.001}
  assert(slow:wait())
  assert(code_of(slow:wait{timeout = 0.001}) == "ETIMEDOUT")
  local waiter = spawn(slow.wait, slow)
  waiter:cancel()
  assert(code_of(waiter:join()) == "ECANCELED")
  local text = tostring(slow)
  assert(text:find("^limiter"), text)
  raises("a number above 0, up to the burst", l.wait, l, 11)
  raises("'rate': a number above 0 expected", sync.limiter, {burst = 1})
  raises("unknown option 'size'", sync.limiter, {rate = 1, size = 2})
end)

it("fails where no task can wait", function()
  raises("cannot wait inside 'table.sort'", function()
    table.sort(setmetatable({2, 1}, {__index = error}), function() sync.channel():receive() end)
  end)
end)

it("waits in coroutines", function()
  local c = sync.channel()
  local co = coroutine.wrap(function()
    coroutine.yield(c:receive())
    for v in c do coroutine.yield(v) end
    return "over"
  end)
  local sender = evlua.spawn(function() c:send(1) c:send(2) c:close() end)
  assert(co() == 1 and co() == 2 and co() == "over")
  sender:join()
end)

