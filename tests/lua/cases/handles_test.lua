-- stream:send_handle and receive_handle: what arrives is the right kind of object, and no descriptor is left over.
local evlua, fs, net, process = require "evlua", require "evlua.fs", require "evlua.net", require "evlua.process"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local eventually, pair, raises = support.eventually, support.pair, support.raises
local folder = assert(fs.temp_dir())
assert(fs.write(folder .. "/file", ""))

local function descriptors()
  return #assert(fs.list("/proc/self/fd"))
end

local function wait_for_descriptors(count)
  eventually(function() return descriptors() == count end, "descriptors are left open, or are missing")
end

local address = "unix:@evlua-handles-" .. string.unpack("I8", evlua.random_bytes(8))
local a, b = pair(address)
collectgarbage()
evlua.sleep(0.01)
local usual = descriptors()

it("sends a file: at its position, with a content that is shared, closed in programs that we start", function()
  local file = assert(fs.open(folder .. "/file", "w+"))
  assert(file:write("01234\n6789"))
  assert(file:seek("set", 0) == 0 and file:read("l") == "01234")
  assert(a:send_handle(file, "the file"))
  local got, data = b:receive_handle{timeout = 20}
  assert(got:seek() == 6 and got:read(2) == "67" and file:read(1) == "6" and got:read(1) == "8")
  file:close()
  assert(data == "the file" and tostring(got):find("^file"))
  assert(got:read_at(4, 3) == "34\n6")
  assert(got:write_at("x", 0) and got:sync())
  local number = tostring(got):match("descriptor (%d+)")
  local flags = tonumber(fs.read("/proc/self/fdinfo/" .. number):match("flags:%s*(%d+)"), 8)
  assert(flags & tonumber("02000000", 8) ~= 0, "not close-on-exec")
  got:close()
  local log = assert(fs.open(folder .. "/log", "a"))
  assert(log:write("one\n") and a:send_handle(log))
  got, data = b:receive_handle()
  assert(data == "\0" and got:write("two\n") and log:write("three\n"))
  assert(fs.read(folder .. "/log") == "one\ntwo\nthree\n")
  log:close()
  got:close()
  wait_for_descriptors(usual)
end)

it("sends one that is open `direct`, which stays so", function()
  local file = fs.open(folder .. "/direct", "w+", {direct = true})
  if file then
    local unit = file:alignment()
    assert(file:write(("0123456789abcdef"):rep(unit // 16)) and a:send_handle(file))
    file:close()
    local got = assert(b:receive_handle{timeout = 20})
    assert(got:alignment() == unit and got:read_at(3, 5) == "567" and got:seek() == unit)
    assert(got:write(("x"):rep(unit)))
    got:close()
  end
  wait_for_descriptors(usual)
end)

it("sends listeners and streams, with the bytes that nobody has read", function()
  for _, place in ipairs{"127.0.0.1:0", "unix:" .. folder .. "/listener"} do
    local listener = assert(net.listen(place))
    local where, port = listener:address(), listener:port()
    assert(a:send_handle(listener, "listener"))
    listener:close()
    local got = assert(b:receive_handle{timeout = 20})
    assert(tostring(got) == "listener " .. where and got:address() == where)
    local accepting = evlua.spawn(function() return assert(got:accept{timeout = 20}) end)
    local client = port ~= 0 and assert(net.connect("127.0.0.1", port)) or assert(net.connect(place))
    local peer = accepting:join()
    -- A stream: the bytes that nobody has read go with it.
    assert(client:write("hello\n"))
    assert(a:send_handle(peer))
    peer:close()
    local same = assert(b:receive_handle())
    assert(same:read("l") == "hello" and same:write("answer\n") and client:read("l") == "answer")
    for _, open in ipairs{client, same, got} do open:close() end
    wait_for_descriptors(usual)
  end
end)

it("sends datagram sockets and pipes of a process", function()
  local socket = assert(net.datagram("127.0.0.1:0"))
  assert(a:send_handle(socket))
  local got = assert(b:receive_handle())
  local where = socket:local_address()
  socket:close()
  assert(got:local_address() == where)
  local other = assert(net.datagram())
  assert(other:send("hi", where) and got:receive{timeout = 20} == "hi")
  got:close()
  other:close()
  local child = assert(process.spawn{"cat", stdin = "pipe", stdout = "pipe"})
  assert(a:send_handle(child.stdin, "in") and a:send_handle(child.stdout, "out"))
  child.stdin:close()
  local into, name = b:receive_handle()
  local from = assert(b:receive_handle())
  assert(name == "in" and into:write("through cat\n") and into:close())
  assert(from:read("l", {timeout = 20}) == "through cat" and child:wait().ok)
  from:close()
  child:close()
  wait_for_descriptors(usual)
end)

it("keeps bytes that come without a descriptor, and closes descriptors that nobody asks for", function()
  assert(a:write("plain"))
  local none, message, code = b:receive_handle()
  assert(none == nil and code == "ENOMSG" and message:find("without a descriptor"))
  assert(select(3, b:receive_handle()) == "ENOMSG" and b:read_exactly(5) == "plain")
  local file = assert(fs.open(folder .. "/file"))
  assert(a:send_handle(file, "not wanted"))
  file:close()
  assert(b:read_exactly(10) == "not wanted")
  wait_for_descriptors(usual)
  -- One that nobody has received yet when the streams are closed.
  local c, d = pair(address .. "-2")
  file = assert(fs.open(folder .. "/file"))
  assert(c:send_handle(file))
  for _, open in ipairs{c, d, file} do open:close() end
  wait_for_descriptors(usual)
end)

it("ends when time runs out, when it is cancelled and when the stream is closed", function()
  local none, message, code = b:receive_handle{timeout = 0.01}
  assert(none == nil and code == "ETIMEDOUT" and message == "receive: timed out", message)
  local task = evlua.spawn(function() return select(3, b:receive_handle()) end)
  while task:status() ~= "waiting" do evlua.yield() end
  assert(select(3, b:read()) == "EBUSY" and select(3, b:receive_handle()) == "EBUSY")
  task:cancel()
  task:join()
  local file = assert(fs.open(folder .. "/file"))
  -- Until the socket takes no more.
  local sent = 0
  repeat
    local ok, _, why = a:send_handle(file, ("x"):rep(4096), {timeout = 0.05})
    if ok then sent = sent + 1 else assert(why == "ETIMEDOUT" or why == "ETOOMANYREFS", why) end
  until not ok
  assert(sent > 3)
  for _ = 1, sent do
    local got, data = b:receive_handle{timeout = 20}
    assert(#data == 4096, data)
    got:close()
  end
  wait_for_descriptors(usual + 1)
  local c, d = pair(address .. "-3")
  task = evlua.spawn(function() return select(3, d:receive_handle()) end)
  while task:status() ~= "waiting" do evlua.yield() end
  d:close()
  assert(task:join() == "ECANCELED" and select(3, d:receive_handle()) == "EBADF")
  assert(select(3, c:send_handle(file)) == "EPIPE" and select(3, c:receive_handle()) == "EOF")
  c:close()
  assert(select(3, c:send_handle(file)) == "EBADF")
  file:close()
  assert(select(3, a:send_handle(file)) == "EBADF")
  wait_for_descriptors(usual)
end)

it("refuses what cannot be sent", function()
  local c, d = pair("127.0.0.1:0")
  local file = assert(fs.open(folder .. "/file"))
  assert(select(3, c:send_handle(file)) == "EOPNOTSUPP" and select(3, d:receive_handle()) == "EOPNOTSUPP")
  file:close()
  assert(d:write("line\nmore") and c:read("l") == "line")
  local none, message, code = a:send_handle(c)
  assert(none == nil and code == "EBUSY" and message:find("not read"))
  assert(c:read_exactly(4) == "more" and a:send_handle(c))
  local got = assert(b:receive_handle())
  for _, open in ipairs{got, c, d} do open:close() end
  raises("a stream, listener, datagram socket or file of evlua.fs expected", a.send_handle, a, "x")
  raises("a stream, listener, datagram socket or file of evlua.fs expected", a.send_handle, a)
  raises("1 to 4096 bytes expected", a.send_handle, a, b, "")
  raises("1 to 4096 bytes expected", a.send_handle, a, b, ("x"):rep(4097))
  raises("unknown option 'x'", a.send_handle, a, b, "x", {x = 1})
  raises("unknown option 'x'", a.receive_handle, a, {x = 1})
  raises("stream expected", a.receive_handle, io.stdout)
  wait_for_descriptors(usual)
end)

after_all(function()
  a:close()
  b:close()
  assert(fs.remove_all(folder))
end)
