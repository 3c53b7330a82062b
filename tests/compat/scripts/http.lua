-- socket.http against a server at the port that is the first argument.
require "show"
local http, ltn12 = require "socket.http", require "ltn12"
local base = "http://127.0.0.1:" .. (...)

local body, code, headers, status = http.request(base .. "/hello")
show("simple", body, code, headers["content-type"], status)
show("post", http.request(base .. "/echo", "a=1&b=2"))
show("missing", (select(2, http.request(base .. "/missing"))))
show("redirected", http.request(base .. "/redirect"))
local parts = {}
local one
one, code, headers, status = http.request{
  url = base .. "/echo", method = "PUT", sink = ltn12.sink.table(parts),
  source = ltn12.source.string(("x"):rep(100000)),
  headers = {["content-length"] = "100000", ["x-mine"] = "yes"},
}
show("generic", one, code, status, #table.concat(parts), headers["x-method"], headers["x-mine"])
parts = {}
one, code = http.request{url = base .. "/redirect", redirect = false, sink = ltn12.sink.table(parts)}
show("not redirected", one, code)
parts = {}
show("chunked", (http.request{url = base .. "/chunked", sink = ltn12.sink.table(parts)}), table.concat(parts))
parts = {}
show("until closed", (http.request{url = base .. "/closed", sink = ltn12.sink.table(parts)}), #table.concat(parts))
show("user", (http.request("http://user:secret@127.0.0.1:" .. (...) .. "/user")))
show("head", (select(2, http.request{url = base .. "/hello", method = "HEAD"})))
show("nobody", http.request("http://127.0.0.1:1/"))
http.TIMEOUT = 0.2
show("slow", http.request(base .. "/slow"))
