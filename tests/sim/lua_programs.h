// Small Lua programs, each about one way of waiting. `setup` makes what the program uses, `body` is what fails and is
// cancelled, and `after` finds whether anything has been left behind.
#pragma once

namespace evlua::test {

inline constexpr const char* kLuaProgramNames[] = {"tasks",  "deferred", "channel", "select", "locks", "events",
                                                   "thread", "links",    "pool",    "shared", "file",  "compute"};

inline constexpr const char* kLuaPrograms = R"lua(
local evlua, fs, sync = require "evlua", require "evlua.fs", require "evlua.sync"
local thread, shared = require "evlua.thread", require "evlua.shared"
local programs = {}

-- A slice may end between any two instructions: what several tasks change needs a lock.
local mutex, rwlock, semaphore = sync.mutex(), sync.rwlock(), sync.semaphore(2)

function run_phase(program, phase)
  local f = programs[program][phase]
  if f then f() end
end

programs.tasks = {
  body = function()
    local sum = 0
    local function add(i) mutex:with(function() sum = sum + i end) end
    evlua.scope(function(scope)
      for i = 1, 2 do scope:spawn(function() evlua.sleep(i / 1000) evlua.yield() add(i) end) end
    end)
    assert(sum == 3)
    local a, b = evlua.all{function() evlua.sleep(0.001) return "a" end, function() return "b" end}
    assert(a == "a" and b == "b")
    assert(evlua.timeout(0.001, evlua.sleep, 10) == nil)
    local late = evlua.spawn(evlua.sleep, 1000)
    evlua.yield()
    late:cancel()
    assert(late:wait())
  end,
}

local deferred, begun, promised = 0, 0, 0
programs.deferred = {
  body = function()
    local function later() begun = begun + 1 evlua.sleep(0.001) deferred = deferred + 1 end
    evlua.spawn(function()
      for _ = 1, 2 do
        evlua.defer(later)
        promised = promised + 1
      end
      evlua.sleep(0.001)
      deferred = deferred + 1
    end):join()
    assert(deferred == 3)
  end,
  after = function()
    local missing = promised - begun - lost_calls
    assert(missing == 0 or missing == 1 and call_may_fail, "a deferred call was lost")
  end,
}

programs.channel = {
  body = function()
    local jobs, sum = sync.channel(1), 0
    evlua.scope(function(scope)
      scope:spawn(function() for n in jobs do evlua.yield() sum = sum + n end end)
      scope:spawn(function() for n = 1, 3 do jobs:send(n) end jobs:close() end)
    end)
    assert(sum == 6)
  end,
}

programs.select = {
  body = function()
    local a, b, done, sum = sync.channel(), sync.channel(), sync.event(), 0
    evlua.scope(function(scope)
      scope:spawn(function() evlua.sleep(0.001) sync.select{{a, 1}, 1000} done:set() end)
      scope:spawn(function() sync.select({{b, 2}, {a, 2}}, {timeout = 1000}) end)
      for _ = 1, 2 do
        local which, value = sync.select{a, b, 1000}
        assert(which and which < 3)
        sum = sum + value
      end
      assert(sync.select{done, 1000} == 1)
    end)
    assert(sum == 3)
  end,
}

programs.locks = {
  body = function()
    local inside = 0
    evlua.scope(function(scope)
      for i = 1, 3 do
        scope:spawn(function()
          mutex:with(function() evlua.sleep(0.001) inside = inside + 1 end)
          if i == 1 then rwlock:with_write(evlua.yield) else rwlock:with_read(evlua.yield) end
          semaphore:with(function() evlua.sleep(0.001) end)
        end)
      end
    end)
    assert(inside == 3)
  end,
  after = function()
    assert(mutex:try_lock() and rwlock:try_lock_write() and semaphore:available() == 2, "a lock is still held")
  end,
}

local event, group = sync.event(), sync.wait_group()
programs.events = {
  body = function()
    local once = sync.once(function() evlua.sleep(0.001) return 5 end)
    evlua.scope(function(scope)
      for _ = 1, 2 do
        group:add()
        scope:spawn(function() event:wait{timeout = 1} group:done() end)
      end
      scope:spawn(function() assert(once() == 5) event:set() end)
      assert(once() == 5)
      assert(group:wait())
    end)
  end,
  after = function()
    event:set()
    assert(event:wait{timeout = 1})
  end,
}

programs.thread = {
  body = function()
    local value = thread.run(function(a, t)
      require("evlua").sleep(0.001)
      return a + t[1]
    end, 1, {2})
    assert(value == 3)
    local ok, message = pcall(thread.run, function() require("evlua").yield() error("on purpose") end)
    assert(not ok and message:find("on purpose"))
  end,
}

-- Channels through which channels are sent, both ways.
programs.links = {
  body = function()
    local a, b = thread.channel(1), thread.channel(1)
    assert(a:send{b, "value"} and b:send{a})
    evlua.scope(function(scope)
      local c, reply = thread.channel(), thread.channel()
      scope:spawn(thread.run, function(from)
        local to = from:receive()
        if to then to:send("answer") end
      end, c)
      assert(thread.select({{c, reply}}, {timeout = 1000}) == 1)
      local which, value = thread.select({reply, thread.channel()}, {timeout = 1000})
      assert(which == 1 and value == "answer")
    end)
  end,
}

local pool
programs.pool = {
  setup = function()
    pool = thread.pool(1)
    assert(pool:run(function() return 1 end) == 1)
  end,
  body = function()
    local function double(n) require("evlua").yield() return n * 2 end
    local results = pool:map({1, 2}, double)
    assert(results[1] == 2 and results[2] == 4)
    assert(pool:spawn(double, 4):join() == 8)
  end,
  after = function() assert(pool:run(function() return 5 end) == 5) end,
}

local once_dict = shared.dict("evlua.once", {bytes = 64 << 20, evict = false})
programs.shared = {
  setup = function() once_dict:flush() end,
  body = function()
    local calls = 0
    evlua.scope(function(scope)
      for _ = 1, 2 do
        scope:spawn(function()
          local value = shared.once("simulated", function() calls = calls + 1 evlua.sleep(0.001) return "v" end)
          assert(value == "v")
          assert(shared.with_lock("simulated", function() evlua.yield() return 1 end) == 1)
        end)
      end
    end)
    assert(calls == 1)
  end,
  after = function()
    shared.with_lock("simulated", function() end)
    assert(shared.once("simulated", function() return "v" end) == "v")
  end,
}

programs.file = {
  body = function()
    local file = assert(fs.open("/simulated", "w+"))
    evlua.defer(function() file:close() end)
    assert(file:write("some text"))
    local back = file:read_at(4, 5)  -- all of it, or less
    assert(#back > 0 and ("text"):sub(1, #back) == back)
    assert(fs.write("/whole", "all of it", {atomic = true}))
    assert(fs.read("/whole") == "all of it")
  end,
}

programs.compute = {
  body = function()
    local sum = 0
    local generate = coroutine.wrap(function() for i = 1, 10 do coroutine.yield(i) end end)
    evlua.scope(function(scope)
      scope:spawn(function() for _ = 1, 10 do sum = sum + generate() end end)
      scope:spawn(function()
        local list = {5, 3, 4, 1, 2}
        table.sort(list, function(a, b) return a < b end)
        assert(table.concat(list) == "12345")
        local text = ("abc"):gsub(".", function(c) return c .. c end)
        assert(text == "aabbcc")
      end)
      for _ = 1, 100 do pcall(string.rep, "x", 3) end
    end)
    assert(sum == 55)
  end,
}
)lua";

}  // namespace evlua::test
