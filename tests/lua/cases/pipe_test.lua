-- evlua.pipe: bytes go from one end to the other, in order and whole, and what cannot be written is not lost.
local evlua, fs, net, process = require "evlua", require "evlua.fs", require "evlua.net", require "evlua.process"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local eventually, pair, raises = support.eventually, support.pair, support.raises
local folder = assert(fs.temp_dir())

-- Bytes that tell where they belong.
local function pattern(size)
  local parts = {}
  for i = 1, size // 8 + 1 do parts[i] = string.pack(">I8", i * 0x9e3779b97f4a7c15) end
  return table.concat(parts):sub(1, size)
end

local big = pattern(5 * 1024 * 1024 + 77)

it("carries everything between sockets, and does not pass on the end", function()
  for _, address in ipairs{false, "unix:" .. folder .. "/s", "unix:@evlua-pipe-" .. math.random(1 << 40)} do
    local writer, from = pair(address or nil)
    local to, reader = pair(address or nil)
    local sent = evlua.spawn(function() assert(writer:write(big)) assert(writer:shutdown("write")) end)
    local got = evlua.spawn(function() return assert(reader:read_exactly(#big, {timeout = 60})) end)
    assert(evlua.pipe(from, to) == #big)
    assert(got:join() == big)
    sent:join()
    assert(select(3, from:read()) == "EOF")
    assert(evlua.pipe(from, to) == 0)
    assert(to:write("more\n") and reader:read("l") == "more")  -- still open
    for _, stream in ipairs{writer, from, to, reader} do stream:close() end
  end
end)

it("carries what was received already first, and exactly as much as is asked for", function()
  local writer, from = pair()
  local to, reader = pair()
  assert(writer:write("head\nbody, and the rest"))
  assert(from:read("l") == "head")
  assert(evlua.pipe(from, to, {count = 0}) == 0)
  assert(evlua.pipe(from, to, {count = 4}) == 4)
  assert(reader:read_exactly(4) == "body")
  assert(from:read_exactly(5) == ", and")
  assert(evlua.pipe(from, to, {count = 3}) == 3 and reader:read_exactly(3) == " th")
  local sent = evlua.spawn(function() return writer:write(big) end)
  assert(from:read_exactly(6) == "e rest")
  local got = evlua.spawn(function() return reader:read_exactly(1000000, {timeout = 60}) end)
  assert(evlua.pipe(from, to, {count = 1000000}) == 1000000)
  assert(got:join() == big:sub(1, 1000000))
  assert(from:read_exactly(1000) == big:sub(1000001, 1001000))
  sent:cancel()
  for _, stream in ipairs{writer, from, to, reader} do stream:close() end
end)

it("ends when time runs out or the task is cancelled, while nothing comes", function()
  local writer, from = pair()
  local to, reader = pair()
  local none, message, code, moved = evlua.pipe(from, to, {timeout = 0.01})
  assert(none == nil and message == "receive: timed out" and code == "ETIMEDOUT" and moved == 0)
  local task = evlua.spawn(evlua.pipe, from, to)
  eventually(function() return task:status() == "waiting" end)
  assert(select(3, from:read()) == "EBUSY" and select(3, to:write("x")) == "EBUSY")
  assert(select(3, evlua.pipe(from, reader)) == "EBUSY" and select(3, evlua.pipe(reader, to)) == "EBUSY")
  assert(reader:write("back") and to:read_exactly(4) == "back")  -- the other directions are free
  assert(writer:write("abc"))
  assert(reader:read_exactly(3) == "abc")
  task:cancel()
  assert(select(3, task:join()) == "ECANCELED")
  assert(writer:write("later") and from:read_exactly(5) == "later")
  assert(to:write("x") and reader:read_exactly(1) == "x")
  -- Closing one of the ends.
  for _, end_to_close in ipairs{"from", "to"} do
    local w, f = pair()
    local t, r = pair()
    local piping = evlua.spawn(function() return select(3, evlua.pipe(f, t)) end)
    eventually(function() return piping:status() == "waiting" end)
    assert((end_to_close == "from" and f or t):close())
    assert(piping:join() == "ECANCELED")
    for _, stream in ipairs{w, f, t, r} do stream:close() end
  end
  for _, stream in ipairs{writer, from, to, reader} do stream:close() end
  assert(select(3, evlua.pipe(from, to)) == "EBADF")
end)

it("leaves what could not be written where it came from", function()
  for round = 1, 3 do
    local writer, from = pair()
    local to, reader = pair()
    local size = #big
    local sent = evlua.spawn(function() assert(writer:write(big)) assert(writer:shutdown("write")) end)
    local moved, code
    if round == 1 then
      code, moved = select(3, evlua.pipe(from, to, {timeout = 0.2}))
      assert(code == "ETIMEDOUT", code)
    elseif round == 2 then
      local task = evlua.spawn(function() return select(3, evlua.pipe(from, to)) end)
      evlua.sleep(0.1)
      task:cancel()
      task:join()
    else
      local task = evlua.spawn(function() return select(3, evlua.pipe(from, to)) end)
      evlua.sleep(0.1)
      to:close()
      assert(task:join() == "ECANCELED")
    end
    local rest = assert(from:read("a", {timeout = 60}))
    sent:join()
    if round < 3 then
      to:close()
      local first = assert(reader:read("a", {timeout = 60}))
      assert(moved == nil or moved == #first)
      assert(#first + #rest == size and first .. rest == big)
    else
      assert(#rest > 0 and rest == big:sub(-#rest))
    end
    for _, stream in ipairs{writer, from, to, reader} do stream:close() end
  end
end)

it("tells that the reader is gone", function()
  local writer, from = pair()
  local to, reader = pair()
  reader:close()
  local sent = evlua.spawn(function() writer:write(big) writer:shutdown("write") end)
  local none, _, code, moved = evlua.pipe(from, to, {timeout = 60})
  assert(none == nil and (code == "EPIPE" or code == "ECONNRESET"), code)
  local rest = assert(from:read("a"))
  sent:join()
  assert(moved + #rest == #big and rest == big:sub(moved + 1))
  -- And the writer resets its connection, since it closes without having read.
  local other, broken = pair()
  assert(broken:write("unread"))
  eventually(function() return select(3, evlua.pipe(other, other, {count = 0})) == nil and other:get("no_delay") end)
  assert(require("evlua.sync").select({other, 20}) == 1)
  other:close()
  local target = pair()
  none, _, code = evlua.pipe(broken, target, {timeout = 20})
  assert(none == nil and code == "ECONNRESET" or none == 0, code)
  for _, stream in ipairs{writer, from, to, broken, target} do stream:close() end
end)

it("carries a stream back into itself", function()
  local a, b = pair()
  local echo = evlua.spawn(evlua.pipe, b, b)
  local reader = evlua.spawn(function() return a:read_exactly(#big, {timeout = 60}) end)
  assert(a:write(big) and a:shutdown("write"))
  assert(reader:join() == big and echo:join() == #big)
  a:close()
  b:close()
end)

it("carries files, by their position", function()
  local path = folder .. "/file"
  assert(fs.write(path, "line\n" .. big))
  local file = assert(fs.open(path))
  assert(file:read("l") == "line")  -- and much more is read ahead
  local to, reader = pair()
  local got = evlua.spawn(function() return reader:read("a", {timeout = 60}) end)
  assert(evlua.pipe(file, to, {count = 1000}) == 1000 and file:seek() == 1005)
  assert(evlua.pipe(file, to) == #big - 1000 and file:seek() == #big + 5)
  assert(evlua.pipe(file, to) == 0)
  to:close()
  assert(got:join() == big)
  -- Into a file.
  local writer, from = pair()
  local copy = assert(fs.open(folder .. "/copy", "w+"))
  assert(copy:write("start"))
  local sent = evlua.spawn(function() assert(writer:write(big)) assert(writer:shutdown("write")) end)
  assert(evlua.pipe(from, copy) == #big)
  sent:join()
  assert(copy:seek() == #big + 5 and copy:write("!"))
  assert(fs.read(folder .. "/copy") == "start" .. big .. "!")
  -- From file to file, and to the end of one.
  assert(file:seek("set", 0) == 0 and copy:seek("set", 5) == 5)
  assert(evlua.pipe(file, copy, {count = 3000000}) == 3000000)
  assert(fs.read(folder .. "/copy") == "start" .. ("line\n" .. big):sub(1, 3000000) .. big:sub(3000001) .. "!")
  assert(fs.write(folder .. "/log", "old "))
  local log = assert(fs.open(folder .. "/log", "a"))
  assert(file:seek("set", 0) == 0)
  assert(evlua.pipe(file, log, {count = 200000}) == 200000 and log:write(" new"))
  assert(fs.read(folder .. "/log") == "old " .. ("line\n" .. big):sub(1, 200000) .. " new")
  -- The position is where writing has stopped.
  local stuck, silent = pair()
  assert(file:seek("set", 0) == 0)
  local none, _, code, moved = evlua.pipe(file, stuck, {timeout = 0.1})
  if none == nil then
    assert(code == "ETIMEDOUT" and file:seek() == moved)
    local rest = evlua.spawn(function() return silent:read_exactly(#big + 5, {timeout = 60}) end)
    assert(evlua.pipe(file, stuck) == #big + 5 - moved)
    assert(rest:join() == "line\n" .. big)
  end
  raises("the same file", evlua.pipe, file, file)
  file:close()
  assert(select(3, evlua.pipe(file, copy)) == "EBADF" and select(3, evlua.pipe(copy, file)) == "EBADF")
  -- One that may not be read or written.
  assert(copy:seek("set", 0) and select(3, evlua.pipe(log, copy)) == "EBADF")
  for _, open in ipairs{copy, log, writer, from, stuck, silent, reader} do open:close() end
end)

it("carries what comes through FIFOs", function()
  local path = folder .. "/fifo"
  assert(process.run{"mkfifo", path}.ok)
  local feeder = evlua.spawn(function()
    local fifo = assert(fs.open(path, "w"))
    assert(fifo:write("first\n" .. big:sub(1, 300000)))
    fifo:close()
  end)
  local fifo = assert(fs.open(path))
  assert(fifo:read("l") == "first")
  local copy = assert(fs.open(folder .. "/from-fifo", "w"))
  assert(evlua.pipe(fifo, copy) == 300000)
  feeder:join()
  copy:close()
  fifo:close()
  assert(fs.read(folder .. "/from-fifo") == big:sub(1, 300000))
end)

it("carries pipes of a process", function()
  local child = assert(process.spawn{"cat", stdin = "pipe", stdout = "pipe"})
  local writer, from = pair()
  local to, reader = pair()
  local into = evlua.spawn(function()
    local moved = assert(evlua.pipe(from, child.stdin))
    child.stdin:close()
    return moved
  end)
  local out = evlua.spawn(function()
    local moved = assert(evlua.pipe(child.stdout, to))
    to:close()
    return moved
  end)
  local got = evlua.spawn(function() return reader:read("a", {timeout = 60}) end)
  assert(writer:write(big) and writer:shutdown("write"))
  assert(into:join() == #big and out:join() == #big and got:join() == big)
  assert(child:wait().ok)
  child:close()
  for _, stream in ipairs{writer, from, reader} do stream:close() end
end)

it("carries other objects, by their methods", function()
  local path = folder .. "/plain"
  assert(fs.write(path, big))
  local plain = assert(io.open(path))
  local to, reader = pair()
  local got = evlua.spawn(function() return reader:read("a", {timeout = 60}) end)
  assert(evlua.pipe(plain, to, {count = 100001}) == 100001)
  assert(evlua.pipe(plain, to, {timeout = 60}) == #big - 100001)
  to:close()
  assert(got:join() == big)
  plain:close()
  local parts = {}
  local sink = {write = function(self, data) self[#self + 1] = data return #self < 3 or nil, "full", "ENOSPC" end}
  local source = {read = function() return table.remove(parts, 1) end}
  parts = {"one", "two", "three", "four"}
  local none, message, code, moved, rest = evlua.pipe(source, sink)
  assert(none == nil and message == "full" and code == "ENOSPC" and moved == 6 and rest == "three")
  local slow = {read = function() return evlua.sleep(10) and "x" end}
  none, message, code, moved, rest = evlua.pipe(slow, sink, {timeout = 0.01})
  assert(none == nil and code == "ETIMEDOUT" and moved == 0 and rest == nil, message)
  reader:close()
end)

it("ends in time where both ends are always ready, and lets others have their turn", function()
  local zero, null = assert(fs.open("/dev/zero")), assert(fs.open("/dev/null", "w"))
  local turns = 0
  local other = evlua.spawn(function() while true do turns = turns + 1 evlua.sleep(0.001) end end)
  local none, message, code, moved = evlua.pipe(zero, null, {timeout = 0.1, count = 1 << 45})
  assert(none == nil and code == "ETIMEDOUT" and moved > 0 and message == "read: timed out", message)
  assert(turns > 1)
  other:cancel()
  local task = evlua.spawn(evlua.pipe, zero, null)
  eventually(function() return task:status() == "waiting" end)
  task:cancel()
  task:join()
  zero:close()
  null:close()
end)

it("gives a `direct` file whole blocks, however the bytes come", function()
  local name = folder .. "/direct"
  local file, _, code = fs.open(name, "w", {direct = true})
  if not file then
    assert(code == "EOPNOTSUPP")
    io.stderr:write("SKIPPED: this file system has no direct I/O\n")
    return
  end
  local unit = file:alignment()
  local data = big:sub(1, 20 * unit)
  -- From a stream, the first bytes of which have been read ahead.
  local writer, from = pair()
  assert(writer:write("line\n" .. data:sub(1, 1000)))
  assert(from:read("l") == "line")
  local moving = evlua.spawn(evlua.pipe, from, file)
  eventually(function() return moving:status() == "waiting" end)
  assert(writer:write(data:sub(1001) .. "rest") and writer:shutdown("write"))
  local none, message, why, moved = moving:join()
  assert(none == nil and why == "EINVAL" and moved == #data, message)
  assert(message:find("^write: this file is open for direct writing, .*: not 4 at " .. #data .. "$"), message)
  assert(from:read("a") == "rest" and file:seek() == #data and fs.read(name) == data)
  writer:close()
  from:close()
  -- From a file, with something read ahead, and with `count`.
  assert(fs.write(folder .. "/plain", "line\n" .. data .. "rest"))
  local plain = assert(fs.open(folder .. "/plain"))
  assert(plain:read("l") == "line" and file:seek("set", 0) == 0)
  assert(evlua.pipe(plain, file, {count = 3 * unit}) == 3 * unit and plain:seek() == 5 + 3 * unit)
  none, _, why, moved = evlua.pipe(plain, file, {count = unit + 1})
  assert(none == nil and why == "EINVAL" and moved == unit and plain:seek() == 5 + 4 * unit)
  assert(evlua.pipe(plain, file, {count = 16 * unit}) == 16 * unit and fs.read(name) == data)
  assert(plain:read("a") == "rest" and evlua.pipe(plain, file) == 0)
  plain:close()
  -- From a FIFO: what is no block stays, in order.
  assert(os.execute("mkfifo " .. folder .. "/direct_fifo"))
  local opened = evlua.spawn(fs.open, folder .. "/direct_fifo", "w")
  local fifo = assert(fs.open(folder .. "/direct_fifo"))
  local feeder = assert(opened:join())
  assert(feeder:write("line\nabcdefghij") and feeder:close() and fifo:read("l") == "line")
  none, _, why, moved = evlua.pipe(fifo, file, {count = 5})
  assert(none == nil and why == "EINVAL" and moved == 0 and fifo:read("a") == "abcdefghij")
  fifo:close()
  file:close()
end)

it("names wrong arguments", function()
  local a, b = pair()
  raises("bad argument #1 to 'evlua.pipe'", evlua.pipe, 1, a)
  raises("bad argument #2 to 'evlua.pipe'", evlua.pipe, a, {})
  raises("option 'count'", evlua.pipe, a, b, {count = -1})
  raises("option 'count'", evlua.pipe, a, b, {count = 1.5})
  raises("option 'timeout'", evlua.pipe, a, b, {timeout = "x"})
  raises("unknown option 'size'", evlua.pipe, a, b, {size = 1})
  raises("table expected", evlua.pipe, a, b, 5)
  a:close()
  b:close()
end)

after_all(function() assert(fs.remove_all(folder)) end)
