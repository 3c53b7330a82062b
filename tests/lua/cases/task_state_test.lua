-- What belongs to a task: its locals, what it has deferred.
local evlua, sync = require "evlua", require "evlua.sync"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local code_of, raises, waits = support.code_of, support.raises, support.waits

local function find(name)
  for _, t in ipairs(evlua.tasks()) do if t.name == name then return t end end
end

it("has locals, which children inherit", function()
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
end)

it("calls what was deferred, in reverse order, however a task ends", function()
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
  raises("inner", traced.join, traced)

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
    evlua.defer(function() raises("a task cannot join itself", task.join, task) end)
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
  raises("bad argument #1 to 'evlua.defer' (function expected", evlua.defer, 1)
end)

