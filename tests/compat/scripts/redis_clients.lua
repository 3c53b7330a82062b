-- Debian's redis client, as it is, in 100 tasks at once. Arguments: the server's port, and its Unix-domain socket.
local evlua, redis = require "evlua", require "redis"
local port, path = tonumber((...)), (select(2, ...))
local COUNT = 100
print("client", (package.searchpath("redis", package.path)))

local control = assert(redis.connect("127.0.0.1", port))
control:flushdb()

local function all(f)
  local list = {}
  for i = 1, COUNT do list[i] = function() return f(i) end end
  evlua.all(list)
end

-- Plain commands and pipelines.
all(function(i)
  local client = assert(redis.connect("127.0.0.1", port))
  assert(client:ping() == true)
  local key = "key:" .. i
  for round = 1, 10 do
    assert(client:set(key, "value " .. round) == true)
    assert(client:get(key) == "value " .. round)
    client:incr("count")
  end
  -- Of commands whose replies the client converts; with others its pipelines fail on Lua 5.3, anywhere.
  local replies = client:pipeline(function(p)
    for n = 1, 50 do p:hset("all:" .. i, n, "value") end
    p:hexists("all:" .. i, 50)
  end)
  assert(#replies == 51 and replies[51] == true and client:hlen("all:" .. i) == 50)
  local large = ("x"):rep(300000) .. i
  client:set(key, large)
  assert(client:get(key) == large)
  assert(client:hmset("hash:" .. i, {a = "1", b = "2"}) and client:hget("hash:" .. i, "b") == "2")
  client:quit()
end)
print("counted", control:get("count"))

-- The same socket module over a Unix-domain socket.
local near = assert(redis.connect("unix://" .. path))
assert(near:ping() == true and near:get("count") == tostring(10 * COUNT))
near:quit()

-- All in BLPOP, which holds a thread that waits for it.
local got, ended = {}, 0
local waiting = {}
for i = 1, COUNT do
  waiting[i] = evlua.spawn(function()
    local client = assert(redis.connect("127.0.0.1", port))
    local answer = assert(client:blpop("queue", 120))
    assert(answer[1] == "queue")
    got[answer[2]], ended = true, ended + 1
    client:quit()
  end)
end
local clients
local deadline = evlua.now() + 60
repeat
  clients = control:info().clients
  assert(evlua.now() < deadline, "they do not come")
  evlua.sleep(0.01)
until tonumber(clients.blocked_clients) == COUNT
print("blocked", clients.blocked_clients, tonumber(clients.connected_clients) > COUNT)
assert(ended == 0)
for i = 1, COUNT do control:rpush("queue", "item " .. i) end
for _, task in ipairs(waiting) do assert(task:join() == nil) end
local kinds = 0
for _ in pairs(got) do kinds = kinds + 1 end
print("popped", ended, kinds)

-- Time limits of both sides.
local client = assert(redis.connect{host = "127.0.0.1", port = port, timeout = 0.1})
print("client's limit", select(2, pcall(client.blpop, client, "nothing", 30)) ~= nil)
client = assert(redis.connect("127.0.0.1", port))
local ok, message = pcall(evlua.timeout, 0.1, function() return client:blpop("nothing", 30) end)
print("evlua.timeout", ok, message:match("connection error.*"))  -- this client raises when it is told of a timeout

-- Subscribed in one task, told by another.
client = assert(redis.connect("127.0.0.1", port))
local heard = {}
local subscriber = evlua.spawn(function()
  for message, abort in client:pubsub{subscribe = {"news"}} do
    heard[#heard + 1] = message.kind .. " " .. tostring(message.payload)
    if message.payload == "stop" then abort() end
  end
end)
while control:publish("news", "first") == 0 do evlua.yield() end
control:publish("news", "stop")
subscriber:join()
print("heard", table.concat(heard, ", "))
