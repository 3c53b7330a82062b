-- Prints what one coroutine costs that is parked in a read, for arg[1] of them: resident bytes, bytes of Lua's heap.
local evlua, net = require "evlua", require "evlua.net"

local count = tonumber(arg[1])
local listener = assert(net.listen("unix:" .. arg[2]))

local function resident()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmRSS:%s+(%d+)")
    if kib then return tonumber(kib) * 1024 end
  end
end

local function measure()
  collectgarbage()
  collectgarbage()
  return resident(), collectgarbage("count") * 1024
end

local streams, tasks = {}, {}
for i = 1, count do streams[i] = assert(listener:accept()) end
local resident_before, heap_before = measure()
for i = 1, count do
  tasks[i] = evlua.spawn(function() return streams[i]:read() end)
end
evlua.sleep(0.5)
local resident_after, heap_after = measure()
print((resident_after - resident_before) / count, (heap_after - heap_before) / count)
evlua.exit(0)
