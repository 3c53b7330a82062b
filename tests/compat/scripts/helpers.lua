-- What LuaSocket's own Lua files do over the core: try and protect, sinks and sources, ltn12, mime, url.
require "show"
local socket, ltn12, mime, url = require "socket", require "ltn12", require "mime", require "socket.url"

show("skip", socket.skip(1, "a", "b", "c"))
show("skip", socket.skip(3, "a"))
show("skip none", socket.skip(0, "a"), socket.skip("1", "a", "b"), socket.skip(0))
show("skip less than none", socket.skip(-1, "a", "b"))
show("skip less than none", socket.skip(-1))
show("skip more than an int", socket.skip(1 << 32, "a", "b"), socket.skip((1 << 32) + 1, "a", "b"))
show("skip a float", socket.skip(1.0, "a", "b"))
for _, number in ipairs{1.5, 0 / 0, 1 / 0, -0.5, 2^70} do raised("skip " .. number, socket.skip, number, "a") end
local finalized = 0
local try = socket.newtry(function() finalized = finalized + 1 end)
show("try", try(1, 2, 3))
local protected = socket.protect(function(...)
  try(...)
  return "fine", ...
end)
show("protect", protected(true, 2))
show("protect", protected(nil, "broken", 3))
show("protect", protected(false, "broken"))
show("protect", protected())
show("finalized", finalized)
show("socket.try", socket.protect(function() socket.try(nil, "why") end)())
raised("other errors", socket.protect(function() error("mine", 0) end))
show("tables", pcall(socket.protect(function() error({"mine"}) end)))
local failing = socket.newtry(function() error("finalizer") end)
raised("a finalizer that fails", socket.protect(function() failing(nil, "first") end))
show("waits inside", socket.protect(function()
  socket.sleep(0.01)
  return try("slept")
end)())

local server = assert(socket.bind("127.0.0.1", 0))
local host, port = server:getsockname()
local client = assert(socket.connect(host, port))
local there = assert(server:accept())
show("pump", ltn12.pump.all(ltn12.source.string(("line\n"):rep(1000)), socket.sink("close-when-done", client)))
local parts = {}
show("pump", ltn12.pump.all(socket.source("until-closed", there), (ltn12.sink.table(parts))))
show("through", #table.concat(parts))
client = assert(socket.connect(host, port))
there = assert(server:accept())
client:send("0123456789rest")
parts = {}
show("by length", ltn12.pump.all(socket.source("by-length", there, 10), (ltn12.sink.table(parts))), table.concat(parts))
show("keep open", ltn12.pump.all(ltn12.source.string("back"), socket.sink("keep-open", there)), client:receive(4))
client:close()
there:close()
server:close()

show("b64", mime.b64("hello world"), (mime.unb64("aGVsbG8gd29ybGQ=")))
show("qp", (mime.qp("a=b \xe9\r\n")), (mime.unqp("a=3Db")))
show("eol", (mime.eol(0, "a\nb\n")))
show("wrap", (mime.wrp(10, "0123456789abcdef", 10)))
parts = {}
ltn12.pump.all(ltn12.source.chain(ltn12.source.string(("x"):rep(100)), ltn12.filter.chain(mime.encode("base64"),
  mime.wrap("base64"))), (ltn12.sink.table(parts)))
show("encoded", table.concat(parts))
local parsed = url.parse("http://user:secret@host.example:8080/path/x;p?q=1#f")
for _, field in ipairs{"scheme", "user", "password", "host", "port", "path", "params", "query", "fragment"} do
  show(field, parsed[field])
end
show("build", url.build(parsed))
show("absolute", url.absolute("http://a/b/c", "../d"))
show("escape", url.escape("a b/ü"), url.unescape("a%20b"))

local names = {}
for name, value in pairs(socket) do
  if not name:find("^connect[46]$") then names[#names + 1] = name .. " " .. type(value) end
end
table.sort(names)
show("socket", table.concat(names, ", "))
names = {}
for name in pairs(socket.dns) do names[#names + 1] = name end
table.sort(names)
show("dns", table.concat(names, ", "))
for _, object in ipairs{socket.tcp(), socket.udp()} do
  names = {}
  for name in pairs(getmetatable(object).__index) do names[#names + 1] = name end
  table.sort(names)
  show(object.class, table.concat(names, ", "))
end
show("version", socket._VERSION)
