-- coroutine.* keeps stock semantics while coroutines wait.
local evlua = require "evlua"

it("waits in a generator, in a for iterator", function()
  local function numbers(n)
    return coroutine.wrap(function()
      for i = 1, n do
        evlua.sleep(0.001)
        coroutine.yield(i, i * i)
      end
    end)
  end
  local sum = 0
  for i, square in numbers(5) do sum = sum + square assert(square == i * i) end
  assert(sum == 55)
end)

it("hands values both ways, across waits", function()
  local co = coroutine.create(function(a, b)
    assert(a == 1 and b == 2)
    evlua.sleep(0)
    local c = coroutine.yield(a + b)
    evlua.sleep(0)
    local d, e = coroutine.yield(c * 2)
    return d, e, nil
  end)
  assert(coroutine.status(co) == "suspended")
  assert(select("#", coroutine.resume(co, 1, 2)) == 2)
  assert(select(2, coroutine.resume(co, 10)) == 20)
  local results = table.pack(coroutine.resume(co, "x", "y"))
  assert(results.n == 4 and results[1] == true and results[2] == "x" and results[3] == "y")
  assert(coroutine.status(co) == "dead")
  local ok, message = coroutine.resume(co)
  assert(not ok and message == "cannot resume dead coroutine")
end)

it("shows a coroutine that waits as one that nobody else may resume", function()
  local waiting = coroutine.create(function() evlua.sleep(0.02) return "done" end)
  local watcher = evlua.spawn(function()
    evlua.sleep(0.005)
    assert(coroutine.status(waiting) == "normal")
    local resumed, why = coroutine.resume(waiting)
    assert(not resumed and why == "cannot resume non-suspended coroutine")
    return true
  end)
  local ok2, value = coroutine.resume(waiting)
  assert(ok2 and value == "done")
  assert(watcher:join())
end)

it("waits in pcall, xpcall and metamethods", function()
  assert(select(2, pcall(function() evlua.sleep(0) return "in pcall" end)) == "in pcall")
  local failed, why = pcall(function() evlua.sleep(0) error({code = 7}) end)
  assert(not failed and why.code == 7)
  local handled = select(2, xpcall(function() evlua.sleep(0) error("x", 0) end, function(m) return m .. "!" end))
  assert(handled == "x!")
  local slow = setmetatable({}, {
    __index = function(_, key) evlua.sleep(0) return key .. "?" end,
    __add = function(_, n) evlua.sleep(0) return n + 1 end,
    __call = function(_, ...) evlua.sleep(0) return ... end,
    __eq = function() evlua.sleep(0) return true end,
    __lt = function() evlua.sleep(0) return true end,
    __concat = function() evlua.sleep(0) return "joined" end,
    __len = function() evlua.sleep(0) return 42 end,
  })
  assert(slow.key == "key?" and slow + 1 == 2 and slow(5) == 5)
  assert(slow < slow and slow .. "" == "joined" and #slow == 42)
end)

it("passes an error through three levels", function()
  local function level(n)
    return coroutine.wrap(function()
      evlua.sleep(0)
      if n == 0 then error("at the bottom") end
      level(n - 1)()
    end)
  end
  local passed, text = pcall(level(2))
  assert(not passed and text:find("at the bottom", 1, true), text)
end)

it("knows what is running, and what may yield", function()
  local self, is_main = coroutine.running()
  assert(type(self) == "thread" and is_main)
  assert(not coroutine.isyieldable())
  local yielded, complaint = pcall(coroutine.yield, 1)
  assert(not yielded and complaint:find("attempt to yield from outside a coroutine", 1, true))
  coroutine.wrap(function()
    assert(coroutine.isyieldable())
    local inner, main = coroutine.running()
    assert(inner ~= self and not main)
  end)()
end)

it("refuses to wait where C calls back, and tells where", function()
  local function refused(name, f)
    local fine, err = pcall(f)
    assert(not fine, name)
    assert(tostring(err):find("cannot wait inside '" .. name, 1, true), tostring(err))
  end
  local function readable(list) return setmetatable(list, {__index = function() end}) end
  refused("table.sort", function() table.sort(readable{3, 2, 1}, function(a, b) evlua.sleep(0) return a < b end) end)
  refused("table.sort", function()
    table.sort(readable{2, 1}, function(a, b) coroutine.wrap(function() evlua.sleep(0) end)() return a < b end)
  end)
  do
    local seen
    setmetatable({}, {__gc = function() local _, e = pcall(evlua.sleep, 0) seen = e end})
    collectgarbage()
    collectgarbage()
    assert(seen and seen:find("cannot wait inside '__gc'", 1, true), seen)
  end
  -- A generator inside sort that does not wait is fine.
  table.sort({3, 1, 2}, function(a, b) return coroutine.wrap(function() coroutine.yield(a < b) end)() end)
end)

it("refuses to wait in a message handler, and xpcall returns why", function()
  local obstacle = "cannot wait inside 'the message handler of xpcall'"
  local function waits(message)
    evlua.sleep(0)
    return message
  end
  local function deeply(message) return (table.concat{waits(message)}) end
  local handlers = {
    waits, deeply, evlua.yield,
    function(message) return evlua.all{function() return message end} end,
    function() for _ in io.popen("echo line"):lines() do end end,
    function(message) return coroutine.wrap(waits)(message) end,
    function(message) return coroutine.wrap(function() return coroutine.wrap(deeply)(message) end)() end,
  }
  local function fails() error("original") end
  for i, handler in ipairs(handlers) do
    for _, body in ipairs{fails, function() return nil + i end, function() evlua.sleep(0) fails() end} do
      local fine, err = xpcall(body, handler)
      assert(not fine and (i == 5 or tostring(err):find(obstacle, 1, true)), tostring(err))
      fine, err = coroutine.wrap(xpcall)(body, handler)
      assert(not fine and (i == 5 or tostring(err):find(obstacle, 1, true)), tostring(err))
    end
  end
  assert(select(2, xpcall(fails, function() return (select(2, pcall(evlua.sleep, 0))) end)):find(obstacle, 1, true))
  do  -- an inner one, and what comes after
    local outer
    local fine, err = xpcall(function()
      local inner, refusal = xpcall(fails, waits)
      assert(not inner and refusal:find(obstacle, 1, true), refusal)
      evlua.sleep(0)
      error("second", 0)
    end, function(message) outer = message return "handled" end)
    assert(not fine and err == "handled" and outer == "second")
  end
  local _, err = xpcall(fails, function()
    table.sort(setmetatable({2, 1}, {__index = function() end}), function(a, b) evlua.sleep(0) return a < b end)
  end)
  assert(tostring(err):find("cannot wait inside 'table.sort", 1, true), tostring(err))
  local same = function(...) evlua.sleep(0) return ... end
  assert(select(2, xpcall(same, same, "no error")) == "no error")
end)

it("says where it refuses to wait, and in what", function()
  local function line() return debug.getinfo(2, "l").currentline end
  local function refused(place, obstacle, ok, err)
    assert(not ok and err:find(obstacle, 1, true), err)
    assert(err:find("^" .. (place and "[^:]*:" .. place .. ": " or "") .. "cannot wait"), err)
  end
  local helper_line = line() + 1
  local function helper() evlua.sleep(0) end
  local handler, hook = "'the message handler of xpcall'", "'the hook of debug.sethook'"
  refused(helper_line, handler, xpcall(error, function() helper() end))
  -- Where it is called itself, the place is that of somebody else.
  refused(nil, handler, xpcall(function() return nil + 1 end, evlua.yield))
  local function hooked(f, mask)
    return pcall(function()
      debug.sethook(f, mask, 1)
      return math.max(1)
    end)
  end
  for _, mask in ipairs{"l", "c", "r", ""} do
    local function once() debug.sethook() helper() end
    refused(helper_line, hook, hooked(once, mask))
    local _, err = hooked(function() debug.sethook() coroutine.wrap(helper)() end, mask)
    assert(err:find(hook, 1, true), err)
    table.sort({2, 1}, function() refused(helper_line, hook, hooked(once, mask)) end)
    refused(helper_line, "'table.sort'", hooked(function() debug.sethook() table.sort({2, 1}, helper) end, mask))
  end
  refused(nil, hook, coroutine.resume(coroutine.create(function()
    debug.sethook(evlua.yield, "l")
    return 1
  end)))
end)

it("complains of dead coroutines as the stock functions do", function()
  local once = coroutine.wrap(function() return 1 end)
  assert(once() == 1)
  local again, dead = pcall(once)
  assert(not again and dead:find("cannot resume dead coroutine", 1, true))
end)
