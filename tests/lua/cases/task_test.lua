-- evlua: spawn, join, cancel, timeout, scope, all, race, map.
local evlua = require "evlua"

it("joins with the results, in order, with nils, and twice the same", function()
  local t = evlua.spawn(function(...) return ... end, 1, nil, 3)
  local r = table.pack(t:join())
  assert(r.n == 3 and r[1] == 1 and r[2] == nil and r[3] == 3)
  assert(table.pack(t:join()).n == 3)
  assert(t:status() == "done")
  assert(select("#", evlua.spawn(function() end):join()) == 0)
end)

it("raises the error of a task where it is joined", function()
  local failing = evlua.spawn(function() evlua.sleep(0) error({why = "x"}) end)
  local ok, e = pcall(failing.join, failing)
  assert(not ok and e.why == "x" and failing:status() == "failed")
end)

it("lets tasks take turns", function()
  local order = {}
  local a = evlua.spawn(function() for i = 1, 3 do order[#order + 1] = "a" .. i evlua.yield() end end)
  local b = evlua.spawn(function() for i = 1, 3 do order[#order + 1] = "b" .. i evlua.yield() end end)
  a:join() b:join()
  assert(table.concat(order, " ") == "a1 b1 a2 b2 a3 b3", table.concat(order, " "))
end)

it("joins with a timeout, and then without", function()
  local slow = evlua.spawn(function() evlua.sleep(0.05) return "late" end)
  local none, message, code = slow:join(0.005)
  assert(none == nil and code == "ETIMEDOUT" and type(message) == "string")
  assert(slow:join() == "late")
end)

it("cancels: the wait in progress returns, the next one raises, join says so", function()
  local seen
  local victim = evlua.spawn(function()
    local v, m, c = evlua.sleep(100)
    seen = {v, m, c}
    evlua.sleep(100)
    seen = "never"
  end)
  evlua.sleep(0.001)
  assert(victim:status() == "waiting")
  assert(victim:cancel())
  local v, m, c = victim:join()
  assert(v == nil and c == "ECANCELED" and victim:status() == "cancelled")
  assert(type(seen) == "table" and seen[3] == "ECANCELED")
  assert(victim:cancel() == false)
end)

it("never runs what is cancelled before it began", function()
  local never = evlua.spawn(function() error("must not run") end)
  never:cancel()
  assert(select(3, never:join()) == "ECANCELED")
end)

it("ends what takes too long", function()
  local started = evlua.now()
  local x, y, z = evlua.timeout(0.01, function() evlua.sleep(100) return 1 end)
  assert(x == nil and z == "ETIMEDOUT", tostring(z))
  assert(evlua.now() - started < 5)
  assert(select("#", evlua.timeout(5, function(...) return ... end, 1, 2)) == 2)
  local inside
  evlua.timeout(0.01, function() inside = table.pack(evlua.sleep(100)) end)
  assert(inside[3] == "ETIMEDOUT")
  assert(not pcall(evlua.timeout, 5, function() error("boom") end))
  -- A loop that ignores results ends all the same.
  assert(select(3, evlua.timeout(0.01, function() while true do evlua.sleep(0.002) end end)) == "ETIMEDOUT")
end)

it("keeps a result that wins over the cancellation", function()
  local winner = evlua.spawn(function() return evlua.yield(), "kept" end)
  evlua.yield()
  assert(winner:cancel())
  local won, kept = winner:join()
  assert(won == true and kept == "kept" and winner:status() == "done")
  local inner, next_code
  local outer = evlua.spawn(function()
    inner = evlua.timeout(100, function() return evlua.yield() and "inner" end)
    next_code = select(3, evlua.sleep(100))
  end)
  evlua.yield()  -- outer waits for the task in its timeout
  evlua.yield()  -- and that yields
  assert(outer:cancel())
  assert(select(3, outer:join()) == "ECANCELED" and inner == "inner" and next_code == "ECANCELED")
end)

it("waits for all of a scope, whose first error cancels the rest", function()
  local done = {}
  evlua.scope(function(s)
    s:spawn(function() evlua.sleep(0.01) done.f = true end)
    s:spawn(function() evlua.sleep(0.005) done.g = true end)
  end)
  assert(done.f and done.g)
  -- Its size counts the tasks, not the body, whether that goes on or has ended.
  local ended, sizes = nil, {}
  evlua.scope(function(s)
    ended = s
    s:spawn(function()
      sizes[1] = s:size()
      while #sizes < 2 do evlua.yield() end
      evlua.sleep(0.001)
      sizes[3] = s:size()
    end)
    evlua.yield()
    sizes[2] = s:size()
  end)
  assert(table.concat(sizes, " ") == "1 1 1" and ended:size() == 0, table.concat(sizes, " "))
  local cancelled
  local fine, err = pcall(evlua.scope, function(s)
    s:spawn(function() cancelled = select(3, evlua.sleep(100)) end)
    s:spawn(function() evlua.sleep(0.001) error("first", 0) end)
    evlua.sleep(100)
  end)
  assert(not fine and err == "first" and cancelled == "ECANCELED")
end)

it("cancels what is in the scope in which a cancelled task waits", function()
  local deep
  local outer = evlua.spawn(function()
    evlua.scope(function(s) s:spawn(function() deep = select(3, evlua.sleep(100)) end) end)
  end)
  evlua.sleep(0.002)
  outer:cancel()
  outer:join()
  assert(deep == "ECANCELED")
end)

it("runs all, races, maps and repeats", function()
  local one, two, three = evlua.all{
    function() evlua.sleep(0.003) return 1 end, function() return nil end, function() return 3 end,
  }
  assert(one == 1 and two == nil and three == 3)
  assert(not pcall(evlua.all, {function() error "x" end, function() evlua.sleep(100) end}))
  assert(evlua.race{
    function() evlua.sleep(100) return "slow" end, function() evlua.sleep(0.001) return "fast" end,
  } == "fast")
  local most, now_running = 0, 0
  local doubled = evlua.map({1, 2, 3, 4, 5, 6, 7}, function(n)
    now_running = now_running + 1
    most = math.max(most, now_running)
    evlua.sleep(0.001)
    now_running = now_running - 1
    return n * 2
  end, {concurrency = 3})
  assert(#doubled == 7 and doubled[7] == 14 and most == 3)
  local ticks = 0
  local ticker = evlua.every(0.002, function() ticks = ticks + 1 end)
  while ticks < 3 do evlua.sleep(0.001) end
  ticker:cancel()
  ticker:join()
end)

it("names wrong arguments", function()
  for _, case in ipairs{
    {evlua.spawn, 1}, {evlua.sleep, "x"}, {evlua.timeout, "x", print}, {evlua.timeout, 1, 2}, {evlua.scope, nil},
    {evlua.all, {1}}, {evlua.race, {}}, {evlua.map, 1, print}, {evlua.map, {}, print, {typo = 1}},
    {evlua.every, 0, print}, {evlua.every, 0/0, print}, {evlua.timeout, 0/0, print},
    {evlua.on_signal, "SIGKILL", print},
  } do
    local called, complaint = pcall(table.unpack(case))
    assert(not called and complaint:find("bad argument", 1, true), complaint)
    assert(not complaint:find("evlua.task", 1, true), complaint)
  end
  assert(not pcall(function() local me me = evlua.spawn(function() me:join() end) me:join() end))
end)

it("runs many tasks", function()
  local count = 0
  evlua.scope(function(s) for _ = 1, 10000 do s:spawn(function() evlua.sleep(0) count = count + 1 end) end end)
  assert(count == 10000)
end)

