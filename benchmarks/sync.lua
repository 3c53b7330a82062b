-- What evlua.sync costs: evlua benchmarks/sync.lua. Nanoseconds, the best of several rounds.
local evlua, sync = require "evlua", require "evlua.sync"
local COUNT, ROUNDS = 200000, 7

local function measure(what, f)
  local best = math.huge
  for _ = 1, ROUNDS do
    local began = evlua.now()
    f(COUNT)
    best = math.min(best, evlua.now() - began)
  end
  print(("%-50s %6.0f ns"):format(what, best / COUNT * 1e9))
end

measure("an empty loop with a method call", function(n)
  local object = setmetatable({}, {__index = {f = function() return true end}})
  for _ = 1, n do object:f() end
end)

local mutex = sync.mutex()
measure("mutex: lock and unlock, nobody waits", function(n)
  for _ = 1, n do
    mutex:lock()
    mutex:unlock()
  end
end)
measure("mutex: with, nobody waits", function(n)
  local function f() end
  for _ = 1, n do mutex:with(f) end
end)

local buffered = sync.channel(64)
measure("channel(64): send and receive, no wait", function(n)
  for i = 1, n do
    buffered:send(i)
    buffered:receive()
  end
end)

-- Between two tasks.
local function pass(channel)
  return function(n)
    local sender = evlua.spawn(function()
      for i = 1, n do channel:send(i) end
    end)
    for _ = 1, n do channel:receive() end
    sender:join()
  end
end
measure("channel(64): a value from task to task", pass(sync.channel(64)))
measure("channel(0): a value from task to task", pass(sync.channel()))
measure("evlua.thread's channel(64): the same, one state", pass(require("evlua.thread").channel(64)))

local semaphore = sync.semaphore(1)
measure("semaphore: acquire and release, nobody waits", function(n)
  for _ = 1, n do
    semaphore:acquire()
    semaphore:release()
  end
end)
local other = sync.channel(64)
measure("select: of two channels, one of them ready", function(n)
  local cases = {buffered, other}
  for i = 1, n do
    other:send(i)
    sync.select(cases)
  end
end)
measure("spawn and join", function(n)
  local function f() end
  for _ = 1, n do evlua.spawn(f):join() end
end)
measure("spawn and join, with a deferred call", function(n)
  local function g() end
  local function f() evlua.defer(g) end
  for _ = 1, n do evlua.spawn(f):join() end
end)
