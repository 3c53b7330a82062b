-- Timeouts: block and total, partial results, connects that do not wait.
require "show"
local socket = require "socket"

local server = assert(socket.bind("127.0.0.1", 0))
local host, port = server:getsockname()
local client = assert(socket.connect(host, port))
local there = assert(server:accept())

show("set", client:settimeout(0.1), client:gettimeout())
show("nothing", took(0.1, client.receive, client))
there:send("part")
show("a part of a line", took(0.1, client.receive, client))
there:send("ly\nmore")
show("the prefix", client:receive("*l", "part"))
show("a part of bytes", took(0.1, client.receive, client, 10))
there:send("and more")
show("a part of all", took(0.1, client.receive, client, "*a"))

show("zero", client:settimeout(0), client:gettimeout())
show("at once", client:receive())
there:send("x")
socket.select({client}, nil, 5)
show("at once", client:receive(2))

show("total", client:settimeout(nil), client:settimeout(0.1, "t"), client:gettimeout())
show("nothing", took(0.1, client.receive, client))
show("both", client:settimeout(5), client:settimeout(0.1, "total"), client:gettimeout())
show("nothing", took(0.1, client.receive, client))
show("none", client:settimeout(-1), client:settimeout(-1, "t"), client:gettimeout())

show("server", server:settimeout(0.05), took(0.05, server.accept, server))
show("server", server:settimeout(0), server:accept())

-- A peer that does not read.
client:settimeout(0.1)
local data = ("x"):rep(20000000)
local sent, message, last = client:send(data)
show("full", sent, message, math.type(last), last > 1000 and last < #data)
-- It reads what was sent, and the rest follows.
there:settimeout(5)
local got = assert(there:receive(math.tointeger(last)))
show("what came", #got == last)
client:settimeout(0)
show("some more", (function()
  local more, why, at = client:send(data, math.tointeger(last) + 1)
  return more or (at or 0) > last, why
end)())
client:close()
there:close()

-- A connect that does not wait.
local quick = socket.tcp()
quick:settimeout(0)
local done, why = quick:connect(host, port)
show("connect", done == 1 or why == "timeout", quick.class)
local _, writable = socket.select(nil, {quick}, 5)
show("writable", #writable, writable[quick])
show("connected", select(2, quick:connect(host, port)))
show("peer", (quick:getpeername()))
server:settimeout(5)
local accepted = server:accept()
show("works", accepted:send("hi\n"))
quick:settimeout(5)
show("works", quick:receive())
quick:close()
accepted:close()

-- The same where nobody listens.
server:close()
quick = socket.tcp4()
quick:settimeout(0)
done, why = quick:connect(host, port)
show("connect", done)
socket.select(nil, {quick}, 5)
show("fails", quick:connect(host, port) or "not connected")
quick:close()

show("sleep", took(0.05, socket.sleep, 0.05))
show("gettime", math.abs(socket.gettime() - os.time()) < 2)
