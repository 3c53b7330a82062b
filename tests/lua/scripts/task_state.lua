-- What belongs to a task: its name, what it waits on as evlua.tasks tells, its locals, what it has deferred.
local evlua, sync, net = require "evlua", require "evlua.sync", require "evlua.net"

local function waits(task)
  while task:status() == "running" do evlua.yield() end
  return task
end
local function find(name)
  for _, t in ipairs(evlua.tasks()) do if t.name == name then return t end end
end
local function code_of(...) return (select(3, ...)) end
local function fails(pattern, f, ...)
  local ok, message = pcall(f, ...)
  assert(not ok and tostring(message):find(pattern), tostring(message))
end

-- Names and the list.
do
  local me = evlua.tasks()
  assert(#me == 1 and me[1].name == "main" and me[1].status == "running" and me[1].waits_on == nil and not me[1].task)
  assert(me[1].traceback:find("task_state.lua", 1, true))
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
    assert(name == "event:wait" or name == "task:join" or t.traceback:find("task_state.lua", 1, true), name)
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
  fails("bad argument #1 to 'name' %(string expected, got boolean%)", function() unnamed:name(true) end)
  -- From within a coroutine, and of one that computes.
  local seen
  evlua.spawn(function() coroutine.wrap(function() seen = find("in it") end)() end):name("in it"):join()
  assert(seen.status == "running" and seen.traceback:find("in coroutine resumed by:", 1, true))
end

-- Locals.
do
  local mine = evlua.locals()
  assert(next(mine) == nil and evlua.locals() == mine)
  mine.id = 1
  mine.list = {}
  local child = evlua.spawn(function()
    local own = evlua.locals()
    assert(own ~= mine and own.id == 1 and own.list == mine.list)
    own.id = 2
    evlua.scope(function(scope)
      scope:spawn(function()
        assert(evlua.locals().id == 2)
        evlua.locals().id = 3
      end)
    end)
    assert(own.id == 2)
    coroutine.wrap(function() assert(evlua.locals() == own) end)()
    evlua.defer(function() assert(evlua.locals() == own) own.deferred = true end)
    return own
  end)
  mine.id = 10  -- after the spawn
  assert(child:join().id == 2 and child:join().deferred and mine.id == 10)
  mine.id, mine.list = nil, nil
  for _ = 1, 100 do evlua.spawn(function() evlua.locals().x = 1 end):join() end
  evlua.spawn(function() assert(evlua.locals().x == nil) end):join()  -- nothing is left from earlier ones
end

-- Deferred calls.
do
  local order
  local function note(...) order[#order + 1] = table.concat({...}, ",") end
  local function run(f, ...)
    order = {}
    local task = evlua.spawn(f, ...)
    return task, table.pack(pcall(task.join, task))
  end
  local _, got = run(function()
    evlua.defer(note, "first", 1)
    evlua.defer(note, "second")
    coroutine.wrap(function() evlua.defer(note, "third") end)()
    note("body")
    return "a", nil, "c"
  end)
  assert(got.n == 4 and got[2] == "a" and got[4] == "c")
  assert(table.concat(order, " ") == "body third second first,1")

  _, got = run(function()
    evlua.defer(note, "cleaned")
    error({reason = "table"})
  end)
  assert(not got[1] and got[2].reason == "table" and order[1] == "cleaned")
  -- The error keeps its text and traceback, whatever happens in between.
  local traced = evlua.spawn(function()
    evlua.defer(function() pcall(coroutine.wrap(function() error("something else") end)) evlua.sleep(0.001) end)
    coroutine.wrap(function() error("inner") end)()
  end)
  fails("inner", traced.join, traced)

  local task = evlua.spawn(function()
    evlua.defer(function()
      evlua.sleep(0.001)  -- may wait
      note("waited")
      evlua.defer(note, "deferred by a deferred one")
    end)
    local _, _, code = evlua.sleep(100)
    note(code)
    evlua.sleep(100)
  end)
  order = {}
  waits(task):cancel()
  assert(code_of(task:join()) == "ECANCELED")
  assert(table.concat(order, " ") == "ECANCELED waited deferred by a deferred one")

  local mutex = sync.mutex()
  assert(evlua.timeout(0.01, function()
    mutex:lock()
    evlua.defer(mutex.unlock, mutex)  -- it is the same task
    evlua.sleep(100)
  end) == nil)
  assert(not mutex:locked())
  if not (os.getenv("EVLUA_SANITIZE") or ""):find("thread") then  -- TSan holds signals back: nothing ends a slice
    order = {}
    assert(code_of(evlua.limit({cpu = 0.02}, function()
      evlua.defer(note, "after a limit")
      while true do end
    end)) == "ELIMIT")
    assert(order[1] == "after a limit")
  end
  -- While it runs the task has not ended, and cancelling it changes nothing any more.
  local finish = sync.event()
  task = evlua.spawn(function()
    evlua.defer(finish.wait, finish)
    evlua.defer(function() fails("a task cannot join itself", task.join, task) end)
    return "result"
  end):name("ending")
  while not (find("ending") and find("ending").waits_on == "defer") do evlua.yield() end
  assert(find("ending").status == "waiting" and task:cancel() == true)
  assert(code_of(task:join(0.001)) == "ETIMEDOUT")
  finish:set()
  assert(task:join() == "result")
  -- Many of them, and none for a task that never began.
  local count = 0
  evlua.spawn(function() for _ = 1, 20000 do evlua.defer(function() count = count + 1 end) end end):join()
  assert(count == 20000)
  -- One that defers itself has an end: each is a level in the one before.
  local depth, refusal = 0, nil
  local function again()
    depth = depth + 1
    local ok, message = pcall(evlua.defer, again)
    if not ok then refusal = message end
  end
  evlua.spawn(again):join()
  assert(depth == 201 and refusal:find("deferred calls nested too deeply", 1, true), refusal)
  task = evlua.spawn(function() evlua.defer(note, "never") end)
  order = {}
  task:cancel()
  task:wait()
  assert(#order == 0)
  fails("bad argument #1 to 'evlua.defer' %(function expected", evlua.defer, 1)
end
print "ok"
