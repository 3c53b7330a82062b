-- setoption and getoption of TCP.
require "show"
local socket = require "socket"
local server = assert(socket.bind("127.0.0.1", 0))
show("reuseaddr", server:getoption("reuseaddr"))
local client = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
for _, name in ipairs{"keepalive", "tcp-nodelay", "reuseaddr"} do
  show(name, client:getoption(name), client:setoption(name, true), client:getoption(name))
  show(name, client:setoption(name, false), client:getoption(name))
end
show("linger", client:setoption("linger", {on = true, timeout = 3}))
local linger = client:getoption("linger")
show("linger", linger.on, linger.timeout)
show("linger off", client:setoption("linger", {on = false, timeout = 0}))
raised("linger", function() client:setoption("linger", true) end)
raised("linger", function() client:setoption("linger", {timeout = 1}) end)
raised("linger", function() client:setoption("linger", {on = true}) end)
show("error", client:getoption("error"))
raised("unknown", function() client:getoption("no-such") end)
raised("of UDP", function() client:setoption("broadcast", true) end)
client:close()
show("closed", client:setoption("keepalive", true))
show("closed", client:getoption("keepalive"))
server:close()
