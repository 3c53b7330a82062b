-- Three routes:  evluaserver examples/web_app.lua --listen 127.0.0.1:8080
local evlua = require "evlua"

local index = [[
<!doctype html><meta charset="utf-8"><title>evlua</title>
<h1>It works</h1>
<form method="post" action="/echo"><input name="text"><button>Echo</button></form>
<p><a href="/stream">A stream</a></p>
]]

local routes = {
  ["/"] = {GET = function(_, res) res:html(index) end},

  ["/echo"] = {POST = function(req, res)
    local body, message, code = req:body(64 * 1024)
    if not body then
      return res:status(code == "ELIMIT" and 413 or 400):text(message .. "\n")
    end
    res:text(body)
  end},

  ["/stream"] = {GET = function(_, res)
    res:header("Content-Type", "text/plain; charset=utf-8")
    for i = 1, 10 do
      if not res:write(("line %d\n"):format(i)) then return end  -- the client has gone
      evlua.sleep(0.05)
    end
  end},
}

return function(req, res)
  local route = routes[req.path]
  if not route then return res:status(404):text("not found\n") end
  local method = req.method == "HEAD" and "GET" or req.method
  local handler = route[method]
  if handler then return handler(req, res) end
  local allowed = {}
  for name in pairs(route) do allowed[#allowed + 1] = name end
  res:status(405):header("Allow", table.concat(allowed, ", ")):text("method not allowed\n")
end
