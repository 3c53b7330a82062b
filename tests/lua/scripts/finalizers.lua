-- __gc: never lost, never endless, and its errors are told.
-- A script: errors in finalizers go to whoever runs, which could be the runner of the tests.
local evlua = require "evlua"
local thread = require "evlua.thread"

local function endless() while true do end end
local function with_finalizer(f) return setmetatable({}, {__gc = f}) end

-- Lua collects at the deepest recursion, too, where nothing more can be called.
local made, finalized = 0, 0
local counting = {__gc = function() finalized = finalized + 1 end}
local function nest()
  for _ = 1, 40 do
    setmetatable({}, counting)
    made = made + 1
  end
  pcall(coroutine.wrap(nest))
end
collectgarbage("setpause", 100)
for _ = 1, 100 do nest() end
collectgarbage "setpause"
collectgarbage()
collectgarbage()
assert(made > 100000 and finalized == made, made .. " " .. finalized)

-- An error goes to whoever runs. Where the runtime does, it is told and does no harm.
local armed, failed = 0, 0
local failing = {__gc = function()
  failed = failed + 1
  error "from __gc"
end}
local function round()
  for _ = 1, 10 do armed = armed + (setmetatable({}, failing) and 1) end
  evlua.spawn(function() return 1, 2, {} end):join()
end
local caught, last = 0
for _ = 1, 600 do
  local ok, message = pcall(round)
  if not ok then caught, last = caught + 1, message end
end
repeat until pcall(collectgarbage)
assert(failed > 5000 and failed == armed and caught > 0, failed .. " of " .. armed)
assert(tostring(last):find("from __gc", 1, true), last)

-- What is not called while a debugger's hook is there: as in lua.
local lines = 0
local co = coroutine.create(function()
  with_finalizer(function()
    local _ = 1
    _ = 2
  end)
  collectgarbage()
end)
debug.sethook(co, function() lines = lines + 1 end, "l")
assert(coroutine.resume(co))
assert(lines >= 2 and lines < 7, lines)

if os.getenv("EVLUA_SANITIZE"):find("thread") then return print "ok" end  -- TSan holds signals back

-- A limit holds in finalizers.
for _, f in ipairs{endless, function() while true do pcall(endless) end end} do
  local nothing, _, why = evlua.limit({cpu = 0.05}, function()
    with_finalizer(f)
    while true do collectgarbage() end
  end)
  assert(nothing == nil and why == "ELIMIT", why)
end

-- So it does where a debugger's hook is, which goes on afterwards as if nothing had been.
local function hooked(finalizer)
  local counted = 0
  local co = coroutine.create(function()
    with_finalizer(finalizer)
    collectgarbage()
    local before = counted
    for _ = 1, 1e5 do end
    return counted - before
  end)
  debug.sethook(co, function() counted = counted + 1 end, "", 1000)
  local _, count = assert(coroutine.resume(co))
  assert(debug.gethook(co))
  return count
end
assert(hooked(function() for _ = 1, 1e6 do end end) >= 100)
assert(select(3, evlua.limit({cpu = 0.05}, hooked, endless)) == "ELIMIT")

-- The text of an error that nobody handles is asked for when no task runs.
local co = coroutine.wrap(function() while true do coroutine.yield() endless() end end)
co()
for _, f in ipairs{
  endless, co, function() while true do pcall(coroutine.wrap(function() for _ = 1, 1e5 do end end)) end end,
  function() return ("x"):rep(50000):find(".-.-.-y") end,
  function() debug.sethook() endless() end,
  coroutine.wrap(function()
    local function catches() pcall(catches) pcall(catches) end
    catches()
  end),
  function() debug.sethook(co, endless, "", 1) coroutine.wrap(endless)() end,
  function() debug.sethook(endless, "l") coroutine.wrap(endless)() end,
} do
  local task = evlua.spawn(function() error(setmetatable({}, {__tostring = f})) end)
  assert(not pcall(task.join, task))
end

-- A state that closes ends them all.
local result = thread.run(function()
  for _ = 1, 3 do
    local function without_hook()
      debug.sethook()
      endless()
    end
    for _, f in ipairs{endless, error, without_hook, function() coroutine.wrap(endless)() end} do
      LAST = setmetatable({LAST}, {__gc = function()
        while true do pcall(f) end
      end})
    end
  end
  return "closed"
end)
assert(result == "closed")
print "ok"
