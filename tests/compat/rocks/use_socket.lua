-- lua-socket's files in Lua, and mime's C module, over our sockets; LuaSocket's own core where nothing opts for ours.
local url, ltn12, mime = require "socket.url", require "ltn12", require "mime"
assert(url.parse("http://a.example:80/b").port == "80" and mime.b64("text") == "dGV4dA==")
local parts = {}
assert(ltn12.pump.all(ltn12.source.chain(ltn12.source.string("a\nb"), mime.normalize()), (ltn12.sink.table(parts))))
assert(table.concat(parts) == "a\r\nb")
local socket = require "socket"
local server = assert(socket.bind("127.0.0.1", 0))
local client = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
local peer = assert(server:accept())
assert(client:send("line\n") and peer:receive() == "line")
client:close()
peer:close()
server:close()
return "socket"
