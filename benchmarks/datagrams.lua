-- UDP echo over loopback: evlua benchmarks/datagrams.lua [clients [rounds [part]]]. ulimit -n must be above the number
-- of clients. With "clients" as the part it is only the second one, of which it prints echoes per second and how many
-- were sent again.
--
-- First what one socket does by itself, then CLIENTS sockets (10,000), each with a task of its own, that send to one
-- server and wait for the answer, all at once. What is lost is sent again, and counted.
local evlua, net = require "evlua", require "evlua.net"
local CLIENTS_ONLY = arg[3] == "clients"
local CLIENTS, ROUNDS = tonumber(arg[1]) or 10000, tonumber(arg[2]) or 10

local function measure(what, count, f)
  local began = evlua.now()
  f()
  local seconds = evlua.now() - began
  print(("%-62s %9.0f per second"):format(what, count / seconds))
end

local function alone()
  local sink = assert(net.datagram("127.0.0.1:0", {receive_buffer = 1 << 22}))
  local source = assert(net.datagram(nil, {connect = sink:local_address()}))
  local data, list = ("x"):rep(100), {}
  for i = 1, 64 do list[i] = data end
  measure("send and receive, one at a time", 200000, function()
    for _ = 1, 200000 do
      source:send(data)
      sink:receive()
    end
  end)
  measure("send 64, receive 64", 200000, function()
    for _ = 1, 200000 // 64 do
      for _ = 1, 64 do source:send(data) end
      for _ = 1, 64 do sink:receive() end
    end
  end)
  measure("send_many of 64, receive 64", 200000, function()
    for _ = 1, 200000 // 64 do
      source:send_many(list)
      for _ = 1, 64 do sink:receive() end
    end
  end)
  sink:close()
  source:close()
end

if not CLIENTS_ONLY then alone() end
local server = assert(net.datagram("127.0.0.1:0", {receive_buffer = 1 << 24}))
local echo = evlua.spawn(function()
  for question, from in server:receive_each() do server:send(question, from) end
end)
local where, lost, open = server:local_address(), 0, 0
local gate = require("evlua.sync").event()
evlua.scope(function(scope)
  for i = 1, CLIENTS do
    scope:spawn(function()
      local client = assert(net.datagram(nil, {connect = where}))
      open = open + 1
      gate:wait()
      for k = 1, ROUNDS do
        local question, answer = i .. " " .. k
        repeat
          client:send(question)
          repeat answer = client:receive{timeout = 1} until answer == question or answer == nil
          if not answer then lost = lost + 1 end
        until answer
      end
      client:close()
    end)
  end
  while open < CLIENTS do evlua.yield() end
  collectgarbage()
  local began = evlua.now()
  scope:spawn(function() gate:set() end)
  scope:spawn(function()
    while open > 0 do
      if scope:size() <= 2 then break end
      evlua.sleep(0.001)
    end
    local seconds = evlua.now() - began
    if CLIENTS_ONLY then return print(CLIENTS * ROUNDS / seconds, lost) end
    print(("%d clients at once, %d rounds: %.2f s, %.0f echoes per second, %d sent again"):format(
      CLIENTS, ROUNDS, seconds, CLIENTS * ROUNDS / seconds, lost))
  end)
end)
server:close()
echo:join()
