-- A small site: static files, a stream of events, and an export that is made while it is sent.
--
--   evluaserver examples/site/app.lua --static examples/site/public --compress 5 --tls-auto-dev
--
-- and then https://localhost:8080/ (the browser will ask, since nobody vouches for the certificate).
local evlua = require "evlua"

local function clock(req, res)
  local ticks, every = tonumber(req:query("ticks") or 3600), tonumber(req:query("every") or 1)
  if not ticks or not every then return res:status(400):text("ticks and every: numbers, please\n") end
  local events = assert(res:sse())
  for tick = 1, ticks do
    if not events:send({event = "tick", id = tick, data = os.date("%H:%M:%S")}) then return end
    evlua.sleep(every)
  end
end

local function export(_, res)
  res:header("Content-Type", "text/csv; charset=utf-8")
  res:header("Content-Disposition", 'attachment; filename="squares.csv"')
  res:write("n,square\n")
  for first = 1, 100000, 1000 do
    local lines = {}
    for n = first, first + 999 do lines[#lines + 1] = n .. "," .. n * n .. "\n" end
    if not res:write(table.concat(lines)) then return end      -- the client has gone
  end
end

local function about(req, res)
  res:text(("HTTP/%s, %s, %s\n"):format(req.version, req.tls and req.tls.version or "not encrypted", req.remote))
end

local routes = {["/clock"] = clock, ["/export.csv"] = export, ["/about"] = about}

return function(req, res)
  local route = routes[req.path]
  if not route then return res:status(404):text("not found\n") end
  route(req, res)
end
