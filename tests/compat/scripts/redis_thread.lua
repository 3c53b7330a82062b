-- --compat reaches the Lua states of evlua.thread.
local evlua, thread = require "evlua", require "evlua.thread"
local port = tonumber((...))
local function work(to, n)
  local spawn = require("evlua").spawn
  local redis = require "redis"
  local tasks = {}
  for i = 1, n do
    tasks[i] = spawn(function() return redis.connect("127.0.0.1", to):blpop("threads", 60)[2] end)
  end
  local sum = 0
  for i = 1, n do sum = sum + math.tointeger((tasks[i]:join())) end
  return sum
end
local workers = {thread.spawn(work, port, 10), thread.spawn(work, port, 10)}
local control = require("redis").connect("127.0.0.1", port)
local deadline = evlua.now() + 60
while tonumber(control:info().clients.blocked_clients) < 20 do
  assert(evlua.now() < deadline, "they do not come")
  evlua.sleep(0.01)
end
for i = 1, 20 do control:rpush("threads", i) end
print("sum", workers[1]:join() + workers[2]:join())
