-- evlua.limit and evlua.stats.
-- A script: it counts the tasks and workers of the whole program, and ends what computes for ever.
local evlua = require "evlua"
local inspect = require("evlua.inspect").value

local function refused(part, ok, message)
  assert(not ok and tostring(message):find(part, 1, true), message)
end

assert(evlua.limit({}, function(...) return select("#", ...) end, 1, nil) == 2)
assert(evlua.limit({cpu = 10, time = 10}, math.max, 1, 2) == 2)
refused("boom", pcall(evlua.limit, {cpu = 10}, error, "boom"))
local none, message, code = evlua.limit({time = 0.01}, evlua.sleep, 100)
assert(none == nil and code == "ETIMEDOUT" and message == "timed out")
for _, bad in ipairs{{cpu = 0}, {cpu = "1"}, {time = -1}, {cpi = 1}} do
  assert(not pcall(evlua.limit, bad, print))
end
refused("table expected", pcall(evlua.limit, 1, print))
refused("function expected", pcall(evlua.limit, {}, 1))

local function exceeds(f)
  local nothing, text, why = evlua.limit({cpu = 0.02}, f)
  assert(nothing == nil and text == "CPU time limit exceeded" and why == "ELIMIT", why)
end
-- Many short pieces are counted as well, whether or not the failures of waits are heeded.
exceeds(function() while true do for _ = 1, 1000 do end if not evlua.yield() then return end end end)
exceeds(function() while true do pcall(evlua.yield) end end)
exceeds(function() while true do pcall(evlua.all, {evlua.yield, evlua.yield}) end end)
exceeds(function() while true do xpcall(evlua.all, evlua.yield, {evlua.yield}) end end)
exceeds(function() while true do pcall(coroutine.wrap(function() pcall(evlua.all, {evlua.yield}) end)) end end)
if not os.getenv("EVLUA_SANITIZE"):find("thread") then  -- TSan holds signals back: nothing ends a slice
  exceeds(function() while true do end end)
  exceeds(function() while true do pcall(function() while true do end end) end end)
  exceeds(function() table.sort({3, 2, 1}, function() while true do end end) end)
  exceeds(function()
    local co = coroutine.wrap(function() while true do end end)
    while true do pcall(co) end
  end)
  local function endless() while true do end end
  -- A table that others have, too, is not left with some of its elements moved.
  local queue = {}
  for i = 1, 400000 do queue[i] = i end
  exceeds(function() while true do table.insert(queue, 1, 0) table.remove(queue, 1) end end)
  local before = #queue - 400000
  for i = 1, 400000 do assert(queue[before + i] == i, i) end
  -- Nor is it the result of a C function that catches errors.
  for _, call in ipairs{{pcall, endless}, {xpcall, endless, print}, {xpcall, error, endless}, {load, endless},
                        {coroutine.resume, coroutine.create(endless)}, {pcall, pcall, load, endless},
                        {xpcall, error, function() (("a"):rep(40)):find(("a?"):rep(40) .. ("a"):rep(40)) end}} do
    local results = table.pack(evlua.limit({cpu = 0.02}, table.unpack(call)))
    assert(results.n == 3 and results[1] == nil and results[3] == "ELIMIT", inspect(results))
    if type(call[2]) == "thread" then call[2] = coroutine.create(endless) end
    results = table.pack(evlua.limit({time = 0.02}, table.unpack(call)))
    assert(results.n == 3 and results[2] == "timed out" and results[3] == "ETIMEDOUT", inspect(results))
  end
  -- New coroutines do not escape either, however short their lives.
  local function nests() pcall(coroutine.wrap(nests)) pcall(coroutine.wrap(nests)) end
  local function descends(depth)
    if depth == 0 then return endless() end
    while true do coroutine.resume(coroutine.create(descends), depth - 1) end
  end
  local began = os.clock()
  exceeds(function() while true do coroutine.resume(coroutine.create(endless)) end end)
  exceeds(function() while true do pcall(coroutine.wrap(function() for _ = 1, 1e6 do end end)) end end)
  exceeds(function() while true do nests() end end)
  local function catches() pcall(catches) pcall(catches) end  -- goes as deep as there is room for
  exceeds(function() while true do catches() end end)
  exceeds(function() descends(20) end)
  -- Nor do hooks of the program.
  local function hooked(hook, mask, f) return function() debug.sethook(hook, mask, 100) while true do f() end end end
  for _, mask in ipairs{"l", "c", "r", ""} do
    exceeds(hooked(endless, mask, function() pcall(math.max, 1, 2) end))
    exceeds(hooked(function() while true do pcall(endless) end end, mask, function() end))
    exceeds(hooked(function() coroutine.wrap(endless)() end, mask, function() pcall(pcall) end))
  end
  local dives = 0  -- in pcalls, each of which has the hook called as it returns
  exceeds(hooked(function() if dives > 100000 then endless() end end, "r", function()
    local function dive() dives = dives + 1 pcall(dive) end
    dive()
  end))
  exceeds(function() while true do pcall(coroutine.wrap(function() evlua.sleep(0) endless() end)) end end)
  assert(os.clock() - began < 2, os.clock() - began)
  none, message, code = evlua.limit({time = 0.02}, function() while true do end end)
  assert(none == nil and code == "ETIMEDOUT", code)
  none, message, code = evlua.limit({time = 0.02}, table.sort, {3, 2, 1}, function() while true do end end)
  assert(none == nil and code == "ETIMEDOUT", code)
  exceeds(function() setmetatable({}, {__index = function() while true do end end}).x() end)
  -- What a limit ends holds nothing any more.
  local shared, thread = require "evlua.shared", require "evlua.thread"
  for name, act in pairs{with_lock = shared.with_lock, once = shared.once} do
    exceeds(function() return act("limited", endless) end)
    assert(evlua.timeout(5, act, "limited", function() return name end) == name)
  end
  local pool = thread.pool(1)
  for _ = 1, 5 do
    local _, _, late = evlua.limit({time = 0.02}, function() while true do pcall(pool.run, pool, endless) end end)
    assert(late == "ETIMEDOUT")
    assert(evlua.timeout(5, function() return pool:run(math.max, 1, 2) end) == 2)
  end
  package.preload.slow = function() if package.loaded.slow_once then return "loaded" end
    package.loaded.slow_once = true
    endless()
  end
  exceeds(function() return require "slow" end)
  assert(evlua.timeout(5, require, "slow") == "loaded")
  -- It holds for tasks that are waited for in groups, and for message handlers.
  local slept
  exceeds(function() return evlua.timeout(100, endless) end)
  exceeds(function() return evlua.limit({cpu = 100}, endless) end)
  exceeds(function() while true do pcall(evlua.all, {endless, function() slept = evlua.sleep(100) end}) end end)
  assert(not slept)
  none, message, code = evlua.limit({time = 0.02}, evlua.scope, endless)
  assert(none == nil and code == "ETIMEDOUT", code)
  exceeds(function() return xpcall(endless, endless) end)
  exceeds(function() return xpcall(endless, function() while true do pcall(endless) end end) end)
  local silent = evlua.spawn(function() error(setmetatable({}, {__tostring = endless})) end)
  assert(not pcall(silent.join, silent))
  do  -- What was deferred has a second, all together.
    local mutex, reached, began = require("evlua.sync").mutex(), {}, evlua.now()
    local function cleans_up()
      mutex:lock()
      evlua.defer(mutex.unlock, mutex)
      evlua.defer(function() reached.late = true end)
      evlua.defer(function() evlua.sleep(100) reached.slept = true end)
      evlua.defer(function() reached.in_time = evlua.sleep(0.01) end)
      return evlua.sleep(100)
    end
    assert(select(3, evlua.limit({time = 0.02}, cleans_up)) == "ETIMEDOUT")
    assert(reached.in_time and not reached.slept and not reached.late and not mutex:locked())
    assert(evlua.now() - began < 20)
    -- However many there are, and however deep.
    local processor = os.clock()
    local function nests(depth)
      if depth > 0 then evlua.defer(nests, depth - 1) end
      evlua.defer(endless)
      endless()
    end
    for _, limit in ipairs{{cpu = 0.02}, {time = 0.02}} do
      evlua.limit(limit, function()
        for _ = 1, 3000 do evlua.defer(endless) end
        endless()
      end)
      evlua.limit(limit, nests, 150)
    end
    assert(os.clock() - processor < 8, os.clock() - processor)
    -- One that has ended in time has what is left of it.
    assert(evlua.limit({time = 30}, function()
      evlua.defer(function() reached.later = evlua.sleep(1.2) end)
      return "result"
    end) == "result" and reached.later)
  end
  -- Others are not charged for it, and what waits is not charged at all.
  local slept = evlua.spawn(evlua.limit, {cpu = 0.02}, function() return evlua.sleep(0.05) end)
  exceeds(function() while true do end end)
  assert(slept:join() == true)
end

-- Patterns that backtrack for ever, everywhere a pattern is matched.
exceeds(function() return ("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40) .. "b") end)
exceeds(function() return ("x"):rep(50000):match("(.-)(.-)(.-)y") end)
do  -- Long sets, long texts to put in, long strings to sort: what is done once for each byte or element is counted.
  local set, began = ("x"):rep(60000), os.clock()
  exceeds(function() return ("y"):rep(60000):find("[" .. set .. "]*z") end)
  exceeds(function() return ("y"):rep(60000):find("[^" .. set .. "]-z") end)
  exceeds(function() return ("y"):rep(60000):find("%f[" .. set .. "]z") end)
  exceeds(function() return ("x"):rep(50000):gsub("y*", ("%0"):rep(50000)) end)
  local list = {}
  for i = 1, 3000 do list[i] = list[i - 2] or ("z"):rep(10000000) .. i end
  exceeds(function() table.sort(list) end)
  assert(os.clock() - began < 2, os.clock() - began)
end
exceeds(function() return ("x"):rep(50000):gsub(".-.-.-y", "") end)
exceeds(function() for _ in ("x"):rep(50000):gmatch(".*.*.*y") do end end)
exceeds(function() while true do pcall(string.find, ("x"):rep(50000), ".-.-.-y") end end)

do  -- A plain text is found in time that is in proportion to what it is looked for in.
  local as, began = ("a"):rep(1000000), os.clock()
  assert(not as:find(as:sub(1, 500000) .. "b", 1, true) and not as:find("b" .. as:sub(1, 500000)))
  assert(("b" .. as .. "b"):find(as .. "b") == 2)
  assert(os.clock() - began < 1, os.clock() - began)
end

local stats = evlua.stats()
local worker = stats.workers[1]
assert(#stats.workers == tonumber(os.getenv("EVLUA_WORKERS") or #stats.workers))
assert(stats.tasks == 1 and stats.states >= 1 and stats.memory > 10000 and stats.slices_cut_short >= 0)
local before = 0
for _, each in ipairs(stats.workers) do before = before + each.operations + each.runs end
for _ = 1, 10 do evlua.sleep(0.0001) end
local after = 0
for _, each in ipairs(evlua.stats().workers) do after = after + each.operations + each.runs end
local overruns = 0
for _, each in ipairs(evlua.stats().workers) do overruns = overruns + each.overruns end
assert(overruns >= stats.slices_cut_short)
assert(after >= before + 20 and worker.longest_poll_gap >= 0 and worker.queued >= 0 and worker.parks >= 0)
print "ok"
os.exit(0)  -- deferred calls have failed, as they should, which would be told by the exit code
