-- Prints nanoseconds of processor time per task spawned, run and joined, and per wait that is over at once.
local evlua = require "evlua"
local count = 500000

local function nothing() end

local began = os.clock()
for _ = 1, count / 100 do
  evlua.scope(function(scope)
    for _ = 1, 100 do scope:spawn(nothing) end
  end)
end
local spawned = os.clock()
for _ = 1, count do evlua.yield() end
print((spawned - began) / count * 1e9, (os.clock() - spawned) / count * 1e9)
