-- evlua.tasks: names, and what each task waits on. A script, since it looks at all tasks that there are.
local evlua, sync, net = require "evlua", require "evlua.sync", require "evlua.net"

local support = dofile((arg[0]:gsub("[^/]*$", "../support.lua")))
local raises, waits = support.raises, support.waits

local function find(name)
  for _, t in ipairs(evlua.tasks()) do if t.name == name then return t end end
end

local me = evlua.tasks()
assert(#me == 1 and me[1].name == "main" and me[1].status == "running" and me[1].waits_on == nil and not me[1].task)
assert(me[1].traceback:find("task_list.lua", 1, true))
local channel, mutex, event = sync.channel(), sync.mutex(), sync.event()
mutex:lock()
local listener = assert(net.listen("127.0.0.1:0"))
local client = assert(net.connect("127.0.0.1", listener:port()))
local long = evlua.spawn(function() evlua.sleep(100) end)
local expected = {
  sleep = long:name("sleep"),
  ["channel:receive"] = evlua.spawn(function() channel:receive() end),
  ["channel:send"] = evlua.spawn(function() sync.channel():send(1) end),
  ["mutex:lock"] = evlua.spawn(function() mutex:lock() end),
  ["event:wait"] = evlua.spawn(event.wait, event),
  ["task:join"] = evlua.spawn(long.join, long),
  ["stream:read"] = evlua.spawn(function() client:read(1) end),
  ["sync.select"] = evlua.spawn(function() sync.select{channel, 100} end),
  ["listener:accept"] = evlua.spawn(function()
    local first = listener:accept()  -- if it were collected, the client's read would end
    listener:accept()
    return first
  end),
  timeout = evlua.spawn(function() evlua.timeout(100, function() evlua.sleep(100) end) end),
  map = evlua.spawn(function() evlua.map({1}, function() evlua.sleep(100) end) end),
  ["limiter:wait"] = evlua.spawn(function()
    local limiter = sync.limiter{rate = 0.001}
    limiter:wait()
    pcall(limiter.wait, limiter)
  end),
  ["semaphore:acquire"] = evlua.spawn(function()
    local semaphore = sync.semaphore(1)
    coroutine.wrap(function() semaphore:acquire() semaphore:acquire() end)()
  end),
}
for name, task in pairs(expected) do
  assert(task:name(name) == task and task:name() == name)
  waits(task)
end
for name, task in pairs(expected) do
  local t = find(name)
  assert(t and t.task == task and t.status == "waiting", name)
  assert(t.waits_on == name, name .. ": " .. tostring(t.waits_on))
  assert(t.age >= 0 and t.age < 60 and t.traceback:find("^stack traceback:\n"), name)
  assert(name == "event:wait" or name == "task:join" or t.traceback:find("task_list.lua", 1, true), name)
end
local list = evlua.tasks()
for i = 2, #list do assert(list[i - 1].age >= list[i].age) end
local here, unnamed = debug.getinfo(1, "Sl"), evlua.spawn(function() evlua.sleep(100) end)
assert(unnamed:name() == nil and find(("task from %s:%d"):format(here.short_src, here.currentline)).task == unnamed)
unnamed:cancel()
for _, task in pairs(expected) do task:cancel() end
for name, task in pairs(expected) do
  task:wait()
  assert(task:name() == name)
end
unnamed:wait()
assert(#evlua.tasks() == 1)
raises("bad argument #1 to 'name' (string expected, got boolean)", function() unnamed:name(true) end)
-- From within a coroutine, and of one that computes.
local seen
evlua.spawn(function() coroutine.wrap(function() seen = find("in it") end)() end):name("in it"):join()
assert(seen.status == "running" and seen.traceback:find("in coroutine resumed by:", 1, true))
print "ok"
