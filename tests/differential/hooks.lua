-- debug.sethook and debug.gethook.
local function show(...)
  local t = table.pack(...)
  for i = 1, t.n do t[i] = type(t[i]) == "function" and "function" or tostring(t[i]) end
  print(table.concat(t, " "))
end

local function traced(mask, count, f)
  local events = {}
  debug.sethook(function(event, line)
    local info = debug.getinfo(2, "Sl")
    events[#events + 1] = event .. ":" .. tostring(line) .. ":" .. info.what .. ":" .. info.currentline
  end, mask, count)
  f()
  debug.sethook()
  for _, event in ipairs(events) do print(mask, event) end
end

local function work()
  local x = 0
  for i = 1, 3 do
    x = x + math.max(i, 1)
  end
  for _ = 1, 2 do x = x + 1 end
  return (function() return tostring(x) end)()
end
traced("l", 0, work)
traced("c", 0, work)
traced("r", 0, work)
traced("crl", 0, work)
traced("", 3, work)
traced("l", 5, work)

-- Inside of a hook it is still there, is not called, and can be taken away or exchanged.
local depth, deepest, calls = 0, 0, 0
local function inner()
  depth, calls = depth + 1, calls + 1
  deepest = math.max(deepest, depth)
  work()
  if calls == 1 then show("in the hook", debug.gethook()) end
  depth = depth - 1
end
debug.sethook(inner, "crl", 7)
work()
assert(debug.gethook() == inner)
debug.sethook()
show("deepest", deepest, debug.gethook())
local second = {}
debug.sethook(function()
  debug.sethook(function(event, line) second[#second + 1] = event .. line end, "l")
  work()
end, "l")
local a = 1
a = a + 1
debug.sethook()
for _, event in ipairs(second) do print("exchanged", event) end
calls = 0
debug.sethook(function() calls = calls + 1 debug.sethook() work() end, "l")
a = a + 1
a = a + 1
show("taken away", calls, debug.gethook())

-- How many instructions a hook itself takes counts as well.
for _, every in ipairs{1, 10, 100, 1000} do
  calls = 0
  debug.sethook(function() calls = calls + 1 for _ = 1, 50 do end end, "", every)
  for _ = 1, 5000 do end
  debug.sethook()
  show("every", every, (calls + 25) // 50)  -- where a slice ends, evlua may miss one
end

-- Errors in it are errors where it was called, for message handlers as well, and it stays.
calls = 0
local function fails() calls = calls + 1 error("from the hook") end
show(xpcall(function()
  debug.sethook(fails, "l")
  a = a + 1
  print "not reached"
end, function(message)
  debug.sethook()
  return (debug.traceback(message):gsub("%[C%]: in .*", ""))
end))
for _ = 1, 2 do
  local ok, message = pcall(function()
    if not debug.gethook() then debug.sethook(fails, "", 1000) end
    while true do end
  end)
  local hook, mask, count = debug.gethook()
  if _ == 2 then debug.sethook() end
  show(ok, message, calls, hook, mask, count)
end
local thrown, ok = {}
ok, thrown[1] = pcall(function()
  debug.sethook(function() debug.sethook() error(thrown) end, "r")
  math.max(1, 2)
end)
show(ok, thrown[1] == thrown)

-- Of other coroutines.
local co = coroutine.create(function() a = 1
  coroutine.yield()
  a = 2
  a = 3
end)
local lines = {}
debug.sethook(co, function(event, line) lines[#lines + 1] = line end, "l")
show(debug.gethook(co))
show(debug.gethook())
coroutine.resume(co)
coroutine.resume(co)
for _, line in ipairs(lines) do show("coroutine", line) end
debug.sethook(function() end, "l", 5)
local heir = coroutine.create(work)
show("inherited", debug.gethook(heir))
coroutine.resume(heir)
debug.sethook()
local nested = coroutine.wrap(function()
  local seen = 0
  debug.sethook(function() seen = seen + 1 end, "l")
  a = 1
  a = 2
  debug.sethook()
  coroutine.yield(seen)
end)
debug.sethook(function() if nested then show("nested", nested()) nested = nil end end, "l")
a = a + 1
debug.sethook()
show(pcall(coroutine.wrap(function()
  debug.sethook(function() coroutine.yield() end, "l")
  a = 1
end)))

-- What is wrong.
for _, arguments in ipairs{{1}, {1, "l"}, {print}, {print, {}}, {print, "l", "x"}, {co, 1, "l"}, {co, print}, {nil},
  {print, ""}} do
  show(pcall(debug.sethook, table.unpack(arguments, 1, #arguments)))
end
show(debug.gethook())
