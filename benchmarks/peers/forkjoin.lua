-- A map that only computes: seconds in this state alone, and over pools of one and of two Lua states. The best of
-- several tries each, in turn. With the argument "alone", and under lua5.3, only the first of that, once.
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local work, tries = {}, 5
for i = 1, 16 do work[i] = 26 end

local function alone() for i = 1, #work do fib(work[i]) end end

if ... == "alone" then return alone() end

local evlua, thread = require "evlua", require "evlua.thread"
local one, two = thread.pool(1), thread.pool(2)
local ways = {alone, function() one:map(work, fib) end, function() two:map(work, fib) end}
local best = {math.huge, math.huge, math.huge}
two:map(work, fib)
for _ = 1, tries do
  for i, way in ipairs(ways) do
    local began = evlua.now()
    way()
    best[i] = math.min(best[i], evlua.now() - began)
  end
end
print(table.unpack(best))
