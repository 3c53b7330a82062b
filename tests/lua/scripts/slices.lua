-- Time slices: code that computes without waiting delays the other tasks by milliseconds, and does not notice.
-- A script: what delays whom is measured, and a runner of tests would be a task more.
local evlua = require "evlua"

local function burn(count)
  local x = 0
  for i = 1, count do x = x + i % 3 end
  return x
end

local function wait_for(what, condition)
  local deadline = evlua.now() + 20
  while not condition() do
    assert(evlua.now() < deadline, what)
    evlua.sleep(0.0005)
  end
end

local ticks = 0
local ticker = evlua.spawn(function() while evlua.sleep(0.0005) do ticks = ticks + 1 end end)

-- Calls `f` until the ticker has run in the middle of it `times` times.
local function interrupted(what, times, f)
  local deadline = evlua.now() + 20
  local seen = 0
  repeat
    local before = ticks
    f()
    if ticks > before then seen = seen + 1 end
    assert(evlua.now() < deadline, what)
  until seen >= times
end

local EXPECTED = burn(1000000)
local function check() assert(burn(1000000) == EXPECTED) end

-- Plainly, in pcall, in a metamethod, in coroutines within coroutines, in an iterator.
interrupted("plain", 3, check)
interrupted("pcall", 3, function() assert(pcall(check)) end)
local meta = setmetatable({}, {__index = function() check() return 1 end, __add = function() check() return 2 end})
interrupted("metamethods", 3, function() assert(meta.x + (meta + meta) == 3) end)
interrupted("iterator", 3, function()
  local rounds = 0
  for i in function(_, last) check() return last < 3 and last + 1 or nil end, nil, 0 do rounds = rounds + i end
  assert(rounds == 6)
end)
interrupted("coroutines", 3, function()
  local function generator(depth)
    return coroutine.wrap(function(first)
      assert(first == "go")
      for i = 1, 3 do
        check()
        assert(coroutine.status(coroutine.running()) == "running")
        if depth > 0 then assert(generator(depth - 1)("go") == 1) end
        assert(coroutine.yield(i) == -i)
      end
      return "end"
    end)
  end
  local outer = generator(2)
  assert(outer("go") == 1 and outer(-1) == 2 and outer(-2) == 3 and outer(-3) == "end")
end)

-- Errors and their tracebacks come out as ever.
interrupted("errors", 3, function()
  local ok, trace = xpcall(function() check() error("after a while") end, debug.traceback)
  assert(not ok and trace:find("after a while", 1, true) and trace:find("slices.lua", 1, true))
end)

-- An endless loop leaves everybody else alive, and what is known about it can be asked.
local inner
local function spin()
  local rounds = 0
  while rounds >= 0 do rounds = rounds + 1 end
end
local endless = evlua.spawn(function()
  inner = coroutine.create(spin)
  coroutine.resume(inner)
end)
wait_for("its start", function() return inner ~= nil end)
for _ = 1, 20 do
  evlua.sleep(0.001)
  assert(coroutine.status(inner) == "normal")
  assert(debug.traceback(inner):find("slices.lua", 1, true))
  local frame = debug.getinfo(inner, 0, "Sf")
  assert(frame.func == spin and frame.what == "Lua")
  local _, value = debug.getlocal(inner, 0, 1)
  assert(value > 0)
  collectgarbage()
end
assert(endless:status() == "running")
debug.setlocal(inner, 0, 1, -1 << 62)  -- ends the loop
endless:join()

local function shuffled(n)
  local list = {}
  for i = 1, n do list[i] = i * 7919 % 100003 end
  return list
end

-- In what C code of ours computes, and calls: sorts, and patterns, in coroutines and with captures as they were.
interrupted("an order function", 3, function() table.sort(shuffled(100000), function(a, b) return a < b end) end)
interrupted("a sort", 3, function()
  local list = shuffled(200000)
  table.sort(list)
  for i = 2, #list do assert(list[i - 1] <= list[i]) end
end)
local long = ("a"):rep(250)
interrupted("string.find", 3, function()
  local from, to, all = (long .. "bc"):find("(.-.-b)c")
  assert(from == 1 and to == 252 and #all == 251)
  assert(not long:find(".-.-.b"))
end)
interrupted("long sets", 3, function()
  local set = "[^" .. ("xyz"):rep(2000) .. "%d]*"
  local text = ("y"):rep(3000)
  assert(not text:find(set .. "%d") and (text .. "ab1"):match(set .. "1") == "ab1")
end)
interrupted("string.match", 3, function() assert(not coroutine.wrap(string.match)(long, "(.-)(.-)b")) end)
interrupted("string.gmatch", 3, function()
  local found = {}
  for first, rest in (long .. "b " .. long .. "b"):gmatch("(%a-)(%a-b)") do found[#found + 1] = #first + #rest end
  for _ in long:gmatch(".-.-b") do assert(false) end
  assert(#found == 2 and found[1] == 251 and found[2] == 251)
end)
do  -- Several tasks take from one iterator: everything once.
  local text = {}
  for i = 1, 60 do text[i] = ("a"):rep(120) .. "," .. i .. ";" end
  local next_number, found = table.concat(text):gmatch("(a-a-),(%d+);"), {}
  local function take() for _, number in next_number do found[#found + 1] = tonumber(number) end end
  evlua.all{take, take, take}
  table.sort(found)
  for i = 1, #found do assert(found[i] == i, found[i]) end
  assert(#found == 60)
end
interrupted("string.gsub", 3, function()
  local tail = ("x"):rep(20000)
  local text, count = (tail .. "=1 " .. long .. tail):gsub("x=(%d)", "<%1>"):gsub("a-a-b", "")
  assert(count == 0 and text == tail:sub(2) .. "<1> " .. long .. tail)
end)

-- In a callback across a C-call boundary the slice ends afterwards; in evlua.atomic, too.
local list = setmetatable(shuffled(100000), {__index = function() end})
local before
table.sort(list, function(x, y)
  before = before or ticks  -- a slice may end on the way into table.sort
  assert(ticks == before)
  return x < y
end)
for i = 2, #list do assert(list[i - 1] <= list[i]) end
assert(evlua.atomic(function(a, b)
  before = ticks
  for _ = 1, 5 do check() end
  assert(ticks == before)
  return a + b
end, 1, 2) == 3)
local ok, message = pcall(evlua.atomic, function() evlua.sleep(0) end)
assert(not ok and message:find("evlua.atomic", 1, true), message)
assert(not pcall(evlua.atomic))
local thrown = {}
ok, message = pcall(evlua.atomic, error, thrown)
assert(not ok and message == thrown)

-- Hooks of debug.sethook stay.
local counted = 0
local function hook() counted = counted + 1 end
debug.sethook(hook, "", 1000)
interrupted("with a hook", 3, check)
local now_set, mask, count = debug.gethook()
assert(now_set == hook and mask == "" and count == 1000 and counted > 1000)
debug.sethook()

-- They are called as often as without time slices, which come many times between two calls here.
for _, every in ipairs{1000000, 10000000} do
  local calls = 0
  debug.sethook(function() calls = calls + 1 end, "", every)
  for _ = 1, 40000000 do end
  debug.sethook()
  assert(math.abs(calls - 40000000 // every) <= 1, calls)
end

-- The signal may come just when Lua is about to call a hook, for a line, a call or a return, and for a count as well.
for _, mask in ipairs{"l", "c", "lcr"} do
  for _, count in ipairs{1, 7, 10} do
    local seen = 0
    local function note() seen = seen + 1 end
    local stop = ticks + 40
    assert(coroutine.resume(coroutine.create(function()
      debug.sethook(note, mask, count)
      local n = 0
      while ticks < stop do for i = 1, 100 do n = n + math.max(i, 1) end end
      assert(debug.gethook() == note)
      debug.sethook()
    end)))
    assert(seen > 100)
  end
end

-- They are set and taken away where no slice can end, and the program's own is away, too; and do not outlive the task.
for _, count in ipairs{10000000, 5000} do
  local first, second = 0, 0
  evlua.atomic(function()
    debug.sethook(function() first = first + 1 end, "", 100000000)
    burn(10000000)
    debug.sethook(function() second = second + 1 end, "", count)
    burn(10000000)
    assert(select(3, debug.gethook()) == count)
    debug.sethook()
    burn(10000000)
    assert(not debug.gethook())
  end)
  local wanted = 30000000 // count  -- there are three instructions in the loop
  assert(math.abs(second - wanted) <= wanted // 50 + 1, second)
end
assert(not debug.gethook())
evlua.spawn(debug.sethook, hook, "l"):join()
assert(evlua.spawn(debug.gethook):join() == nil)


-- No line is left out, and none is told twice.
do
  local chunk = {"local n, list = 0, {}"}
  for i = 2, 2000 do chunk[i] = "list[n % 10] = n for _ = 1, 20 do local x = n + _ end n = n + 1" end
  local run, lines = load(table.concat(chunk, "\n"), "=lines"), {}
  local function note(_, line)
    if debug.getinfo(2, "S").source == "=lines" then lines[#lines + 1] = line end
  end
  interrupted("lines", 5, function()
    lines = {}
    debug.sethook(note, "l")
    run()
    debug.sethook()
    local expected = 1
    for i, line in ipairs(lines) do
      if line ~= expected then
        expected = expected + 1
        assert(line == expected, i)
      end
    end
    assert(expected == 2000 and #lines == 1 + 1999 * 21, #lines)
  end)
end

-- A hook that computes for long is not called in itself, is there all the time, and is charged to who is interrupted.
do
  local inside, most, calls = 0, 0, 0
  local function slow()
    inside, calls = inside + 1, calls + 1
    most = math.max(most, inside)
    burn(1000000)
    assert(debug.gethook() == slow)
    inside = inside - 1
  end
  for _, mask in ipairs{"l", "cr", "crl"} do
    calls = 0
    evlua.atomic(function()
      debug.sethook(slow, mask, 100)
      local n = math.max(1, 2)
      n = math.max(n, 3)
      debug.sethook()
    end)
    assert(calls >= 3 and most == 1 and inside == 0, calls)
  end
end

-- Coroutines that have died while their hooks were away leave room for others.
for _ = 1, 20 do
  local co = coroutine.create(function()
    debug.sethook(function() end, "", 1000000)
    table.sort(setmetatable({3, 2, 1}, {__index = print}), function() burn(20000000) error("dead") end)
  end)
  assert(not coroutine.resume(co))
end
debug.sethook(function() end, "", 1000000)
interrupted("with a hook after many", 3, check)
debug.sethook()

-- Also those of a coroutine that waits often and goes on wherever there is time.
local hooked = coroutine.create(function()
  debug.sethook(hook, "", 1000)
  for _ = 1, 300 do
    burn(20000)
    evlua.sleep(0)
    assert(debug.gethook() == hook)
  end
  debug.sethook()
end)
local busy = evlua.spawn(function() while coroutine.status(hooked) ~= "dead" do burn(5000) evlua.yield() end end)
assert(coroutine.resume(hooked))
assert(coroutine.status(hooked) == "dead")
busy:join()

-- A slice may end between spawning a member of a group and waiting for it, and then the member has ended.
for _, seconds in ipairs{false, 10} do
  local group = require("evlua.task").group()
  local member = group:spawn(math.max, 1, 2)
  while member:status() ~= "done" do evlua.yield() end
  assert(group:wait(seconds or nil) == false and member:join() == 2)
end

-- Two endless computations share.
local progress, stopped = {0, 0}, false
local sharing = {}
for i = 1, 2 do
  sharing[i] = evlua.spawn(function() while not stopped do progress[i] = progress[i] + 1 end end)
end
wait_for("both", function() return progress[1] > 1000 and progress[2] > 1000 end)
stopped = true
for i = 1, 2 do sharing[i]:join() end

ticker:cancel()
