-- A map that only computes, over pools of one and of two Lua states: seconds for each, and in this state alone.
local evlua, thread = require "evlua", require "evlua.thread"
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local work = {}
for i = 1, 16 do work[i] = 26 end

local function timed(f)
  local began = evlua.now()
  f()
  return evlua.now() - began
end

local one, two = thread.pool(1), thread.pool(2)
two:map(work, fib)
print(timed(function() for i = 1, #work do fib(work[i]) end end), timed(function() one:map(work, fib) end),
  timed(function() two:map(work, fib) end))
