-- Clients that ask for "Hello, World!" at a steady rate, on connections that they keep:
--     evlua steady_load.lua PORT REQUESTS-PER-SECOND CLIENTS
-- Ended by SIGTERM it tells "N good, M failed"; each failure is told at once, on standard error.
local evlua, net = require "evlua", require "evlua.net"

local port, rate, clients = math.tointeger(arg[1]), tonumber(arg[2]), math.tointeger(arg[3])
local REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
local BODY = "Hello, World!"
local PATIENCE = {timeout = 30}
local counts = {good = 0, failed = 0}

-- The stream for the next request: none where the server has told that it closes this one.
local function ask(stream)
  stream = stream or assert(net.connect("127.0.0.1", port, PATIENCE))
  assert(stream:write(REQUEST, PATIENCE))
  local head = assert(stream:read_until("\r\n\r\n", 4096, PATIENCE))
  local body = assert(stream:read_exactly(#BODY, PATIENCE))
  if not head:find("^HTTP/1.1 200 ") or body ~= BODY then error("another answer: " .. head .. body) end
  if not head:find("Connection: close", 1, true) then return stream end
  stream:close()
end

local function client()
  local stream
  evlua.sleep(math.random() * clients / rate)
  while true do
    local ok, result = pcall(ask, stream)
    local key = ok and "good" or "failed"
    counts[key] = counts[key] + 1
    if not ok then io.stderr:write(os.date("%T"), " steady load: ", tostring(result), "\n") end
    stream = ok and result or nil
    evlua.sleep(math.random() * 2 * clients / rate)
  end
end

evlua.on_signal("SIGTERM", function()
  print(("%d good, %d failed"):format(counts.good, counts.failed))
  os.exit(0)
end)
for _ = 1, clients do evlua.spawn(client) end
evlua.sleep(math.huge)
