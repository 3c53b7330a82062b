-- What the raw cases talk to. A path without a rule answers with itself and does not read the body.
local evlua = require "evlua"

local routes = {}

-- The body, or why there is none.
routes["/echo"] = function(req, res)
  local body, _, code = req:decode(false):body()
  if not body then return res:status(code == "ELIMIT" and 413 or 400):text(code) end
  res:text(body)
end

-- The same for handlers that do not look.
routes["/assert"] = function(req, res) res:text((assert(req:body(10)))) end

-- Piece by piece, and what of the head could have been changed by trailers.
routes["/pieces"] = function(req, res)
  local size = 0
  for piece, _, code in req:chunks() do
    if not piece then return res:status(400):text(code) end
    size = size + #piece
  end
  res:text(("%d %s %s %s"):format(size, req:header("content-length"), req:header("x-trailer"), req:header("host")))
end

routes["/see"] = function(req, res)
  res:text(("%s [%s] [%s] [%s] %s"):format(req.method, req.target, req.query_string, req.host, req.version))
end

routes["/field"] = function(req, res) res:text("[" .. (req:headers()["x"] or "none") .. "]") end

routes["/stream"] = function(_, res)
  for _ = 1, 3 do
    res:write("part ")
    evlua.yield()
  end
end

routes["/stream-length"] = function(_, res)
  res:header("Content-Length", "10")
  res:write("01234")
  res:write("56789")
end

-- The head of the answer goes first, then the body is read.
routes["/late"] = function(req, res)
  res:write("got ")
  res:write(req:body() or "nothing")
end

routes["/nothing"] = function() end
routes["/cut"] = function(_, res)
  res:header("Content-Length", "10")
  res:write("01234")
end
routes["/close"] = function(_, res) res:header("Connection", "close"):text("closing") end
routes["/redirect"] = function(_, res) res:redirect("/elsewhere") end

return function(req, res)
  local route = routes[req.path]
  if route then return route(req, res) end
  local status, way = req.path:match("^/status/(%d%d%d)(.*)$")
  if not status then return res:text(req.path) end
  res:status(math.tointeger(status))
  if way == "/length" then res:header("Content-Length", "4") end
  if way == "/stream" then res:write("body") else res:send("body") end
end
