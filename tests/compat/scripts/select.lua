-- select: what is readable and writable, buffers, time, objects of other kinds.
require "show"
local socket = require "socket"

local server = assert(socket.bind("127.0.0.1", 0))
local host, port = server:getsockname()
local function pair()
  local a = assert(socket.connect(host, port))
  return a, assert(server:accept())
end
local a, a2 = pair()
local b, b2 = pair()
local names = {[a] = "a", [b] = "b", [server] = "server", [a2] = "a2", [b2] = "b2"}

local function of(list)
  local text = {}
  for i, s in ipairs(list) do
    text[#text + 1] = (names[s] or tostring(s)) .. "=" .. tostring(list[s])
    assert(list[list[s]] == s)
  end
  return table.concat(text, " ")
end
local function look(label, ...)
  local readable, writable, message = socket.select(...)
  show(label, of(readable), of(writable), message)
end

look("nothing", {a, b, server}, nil, 0)
took(0.05, look, "nothing for a while", {a, b}, nil, 0.05)
took(0.05, look, "no sockets", nil, nil, 0.05)
took(0.05, look, "empty", {}, {}, 0.05)
look("writable", nil, {a, b})
look("both lists", {a, b}, {a}, 1)
a2:send("one\ntwo\n")
look("a readable", {a, b}, nil, 5)
look("a readable", {b, a}, nil)
b2:send("x")
socket.select({b}, nil, 5)
look("by descriptor", {b, a}, nil, 5)
look("both", {b, a}, {a, b}, 5)
show("a line", a:receive())
show("dirty", a:dirty())
look("buffered first", {b, a}, nil, 5)
show("a line", a:receive())
show("dirty", a:dirty())
look("not any more", {a}, nil, 0)
local c = assert(socket.connect(host, port))
look("server", {server, a}, nil, 5)
c:close()
local c2 = server:accept()
names[c2] = "c2"
look("the end is readable", {c2}, nil, 5)
show("closed", c2:receive())
c2:close()

-- Whatever has getfd and dirty.
local object = {getfd = function() return b:getfd() end, dirty = function() return false end}
names[object] = "object"
look("an object", {object}, nil, 5)
local eager = {getfd = function() return a:getfd() end, dirty = function() return true end}
names[eager] = "eager"
look("an eager one", {eager, b}, nil, 5)
look("without a descriptor", {{getfd = function() return -1 end}, b}, nil, 5)
look("closed ones are left out", {c2, b}, nil, 5)

raised("no table", socket.select, 5)
raised("no number", socket.select, {}, {}, "soon")
a:close() b:close() a2:close() b2:close() server:close()
