-- Many echo clients at once:  evlua examples/echo_client.lua PORT [CONNECTIONS [ROUNDS]]
-- Every connection is open before the first one speaks. Exit code 1 when an echo is wrong or missing.
local evlua, net = require "evlua", require "evlua.net"

local port, connections, rounds = math.tointeger(arg[1]), tonumber(arg[2] or 1000), tonumber(arg[3] or 3)
local open, good = {}, 0

local numbers = {}
for i = 1, connections do numbers[i] = i end
evlua.map(numbers, function(i) open[i] = assert(net.connect("127.0.0.1", port, {timeout = 20})) end, {concurrency = 64})

local began = evlua.now()
evlua.scope(function(scope)
  for i = 1, connections do
    scope:spawn(function()
      for round = 1, rounds do
        local message = ("connection %d round %d\n"):format(i, round)
        assert(open[i]:write(message, {timeout = 20}))
        assert(open[i]:read("L", {timeout = 20}) == message)
        good = good + 1
      end
      open[i]:close()
    end)
  end
end)
print(("%d connections, %d echoes in %.3f s"):format(connections, good, evlua.now() - began))
if good ~= connections * rounds then os.exit(1) end
