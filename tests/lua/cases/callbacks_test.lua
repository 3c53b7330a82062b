-- What functions of stock Lua call from C may wait. Results are compared in tests/differential/callbacks.lua.
local here = ...
local evlua = require "evlua"

local function wait(...)
  evlua.sleep(0)
  return ...
end

-- What a table shows that reads, writes and measures another one, slowly.
local function proxy(store)
  return setmetatable({}, {
    __len = function() return wait(#store) end,
    __index = function(_, key) return wait(store[key]) end,
    __newindex = function(_, key, value) store[key] = wait(value) end,
  })
end

-- What waits whenever it is asked for something.
local slow = setmetatable({}, {
  __tostring = function() return wait("slow") end,
  __pairs = function() return wait(next, {"pair"}, nil) end,
  __ipairs = function() return wait(ipairs({"one", "two"})) end,
})

it("waits in tostring, print and format", function()
  assert(tostring(slow) == "slow")
  print(slow, 1, slow)
  assert(("%s|%6s|%d%%|%s"):format(slow, slow, 7, nil) == "slow|  slow|7%|nil")
  local wrong, why = pcall(string.format, "%d", slow)
  assert(not wrong and why:find("number expected, got table", 1, true))
end)

it("waits in pairs, ipairs and load", function()
  for _, value in pairs(slow) do assert(value == "pair") end
  local count = 0
  for i, value in ipairs(slow) do
    assert(value == ({"one", "two"})[i])
    count = count + 1
  end
  for i, value in ipairs(proxy({"a", "b", "c"})) do
    assert(value == ("abc"):sub(i, i))
    count = count + 1
  end
  assert(count == 5)
  local pieces = {"return ", "4", "2"}
  assert(load(function() return wait(table.remove(pieces, 1)) end)() == 42)
  local loads = {}
  for i = 1, 20 do
    loads[i] = function()
      local rest = 300
      local function reader()
        rest = rest - 1
        if rest == 0 and i % 5 == 0 then error(wait("failed"), 0) end
        return wait(rest > 0 and ("x = %d "):format(i) or rest == 0 and "return x, ..." or nil)
      end
      local chunk, message = load(reader, "=pieces", "t", {})
      if i % 5 == 0 then
        assert(chunk == nil and message == "failed")
      else
        local x, argument = chunk("argument")
        assert(x == i and argument == "argument")
      end
    end
  end
  evlua.all(loads)
end)

it("waits in gsub: nested, with results beyond a buffer, among tasks, with errors", function()
  assert(("abc abc"):gsub("%w+", function(word) return wait(word:upper()) end) == "ABC ABC")
  assert(("abc"):gsub("^%w", function() return wait("x") end) == "xbc")
  assert(("abc"):gsub("b", function() return wait(nil) end) == "abc")
  assert(("a,b"):gsub("%w", proxy({a = "first"})) == "first,b")
  assert(("abcdef"):gsub("%w", function(c) return wait(c .. c) end, 2) == "aabbcdef")
  assert(("a b"):gsub("()(%w)", function(at, c) return wait(c .. at) end) == "a1 b3")
  assert(("hello"):gsub("", function() return wait("-") end) == "-h-e-l-l-o-")
  local function nested(depth)
    return (("x y"):gsub("%w", function(c) return wait(depth == 0 and c or nested(depth - 1)) end))
  end
  assert(nested(3) == ("x y "):rep(8):sub(1, -2))
  local tasks = {}
  for i = 1, 20 do
    tasks[i] = function()
      local text, times = ("x y "):rep(1000):gsub("x", function(c)
        if evlua.now() % 3 < 1 then evlua.yield() end
        return c .. i .. ("y"):gsub("y", function() return "z" end)
      end)
      assert(times == 1000 and text == ("x" .. i .. "z y "):rep(1000))
      if i % 5 == 0 then
        local fine, message = pcall(string.gsub, "abc", "b", function() error(wait("failed"), 0) end)
        assert(not fine and message == "failed")
      end
      return true
    end
  end
  evlua.all(tasks)
  local entered, text
  local function never()
    entered = true
    return (evlua.sleep(100))
  end
  local waiting = evlua.spawn(function() text = ("abc"):gsub("b", never) end)
  while not entered do evlua.yield() end
  waiting:cancel()
  waiting:join()
  assert(text == "abc")
end)

it("waits in table.sort: in its function, in __lt, nested, among tasks, after errors", function()
  local function slow_less(a, b) return wait(a < b) end
  for n = 0, 50 do
    local list = {}
    for i = 1, n do list[i] = i * 37 % 51 end
    table.sort(list, slow_less)
    for i = 2, n do assert(list[i - 1] < list[i]) end
  end
  local Number = {__lt = function(a, b) return wait(a.value < b.value) end}
  local numbers = {}
  for i = 1, 30 do numbers[i] = setmetatable({value = i * 7 % 31}, Number) end
  table.sort(numbers)
  for i = 1, 30 do assert(numbers[i].value == i) end
  local mixed = {2, setmetatable({value = 3}, Number), setmetatable({value = 1}, Number)}
  Number.__lt = function(a, b) return wait((tonumber(a) or a.value) < (tonumber(b) or b.value)) end
  table.sort(mixed)
  assert(mixed[1].value == 1 and mixed[2] == 2 and mixed[3].value == 3)
  local sorts = {}
  for i = 1, 20 do
    sorts[i] = function()
      local list = {}
      for k = 1, 100 do list[k] = k * 31 % 101 + i end
      table.sort(list, function(a, b)
        local two = {b, a}
        table.sort(two, slow_less)
        return two[1] == a and a ~= b
      end)
      for k = 1, 100 do assert(list[k] == k + i) end
    end
  end
  evlua.all(sorts)
  for _, bad in ipairs{function() return wait(true) end, function() wait() error("bad") end} do
    local fine, text = pcall(table.sort, {5, 3, 1, 4, 2}, bad)
    assert(not fine and (text:find("invalid order function for sorting", 1, true) or text:find("bad", 1, true)), text)
  end
  local list = {3, 1, 2}
  table.sort(list, slow_less)
  assert(table.concat(list, " ") == "1 2 3")
  local asks = coroutine.wrap(function()
    local answers = {"c", "a", "b"}
    table.sort(answers, function(a, b) return coroutine.yield(a, b) end)
    return table.concat(answers)
  end)
  local a, b = asks()
  while b do a, b = asks(a < b) end
  assert(a == "abc")
  local stopped, _, reason = evlua.timeout(0.01, table.sort, {2, 1}, function() evlua.sleep(10) end)
  assert(stopped == nil and reason == "ETIMEDOUT")
end)

it("lets a coroutine yield values of its own in between", function()
  local generator = coroutine.wrap(function()
    return (("a b"):gsub("%w", function(c) return coroutine.yield(wait(c)) end))
  end)
  assert(generator() == "a" and generator("1") == "b" and generator("2") == "1 2")
end)

it("waits in table.* on what has only functions", function()
  local store = {1, 2, 3}
  local list = proxy(store)
  table.insert(list, 4)
  table.insert(list, 1, 0)
  assert(table.concat(store, ",") == "0,1,2,3,4" and table.concat(list, ";", 2, 3) == "1;2")
  assert(select("#", table.unpack(list)) == 5 and select(2, table.unpack(list, 2, 3)) == 2)
  assert(table.remove(list) == 4 and table.remove(list, 1) == 0 and #store == 3)
  assert(table.move(list, 1, 3, 2) == list and table.concat(store, ",") == "1,1,2,3")
  assert(table.move({7, 8}, 1, 2, 1, list) == list and table.concat(store, ",") == "7,8,2,3")
end)

it("does the same as where nothing waits, whatever the metamethods are", function()
  local path = here:gsub("lua/cases/callbacks_test.lua$", "differential/tables.lua")
  local function output_of(wait_before)
    local lines = {}
    local function to_text(value)
      wait_before()
      return tostring(value)
    end
    local env = {tostring = to_text, print = function(...) lines[#lines + 1] = table.concat({...}, " ") end}
    assert(loadfile(path, "t", setmetatable(env, {__index = _G})))()
    return lines
  end
  local wanted = output_of(function() end)
  local turns = 0
  local got = output_of(function()
    turns = turns + 1
    if turns % 3 ~= 0 then evlua.yield() end
  end)
  assert(#wanted == 100 and turns > 100000)
  for i = 1, #wanted do assert(wanted[i] == got[i], got[i]) end
end)

it("waits in table.move to tell whether both tables are the same", function()
  local Point = {__eq = function(p, q) return wait(p.name == q.name) end}
  local function points(name) return setmetatable({1, 2, 3, name = name}, Point) end
  local same, other = points("a"), points("b")
  assert(table.concat(table.move(points("a"), 1, 3, 2, same), ",") == "1,1,2,3")
  assert(table.concat(table.move(same, 1, 4, 2, same), ",") == "1,1,1,2,3")
  assert(table.concat(table.move(points("a"), 1, 3, 2, other), ",") == "1,1,2,3")
  local asked = 0
  Point.__eq = function() asked = asked + 1 return wait(false) end
  table.move(points("a"), 1, 3, 4, same)
  assert(asked == 0)
  table.move(points("a"), 1, 3, 3, same)
  assert(asked == 1)
end)

it("moves very many elements that are not there, as the stock functions do", function()
  local far = 5 << 18  -- more than there is room for, as is looked at first
  local function holes()
    local t = {}
    for _, i in ipairs{1, 2, 4} do t[i] = i end
    for bit = 0, 18 do t[5 << bit] = 5 << bit end
    assert(#t == far)
    return t
  end
  local t = holes()
  table.insert(t, 3, "new")
  assert(t[1] == 1 and t[2] == 2 and t[3] == "new" and t[4] == nil and t[5] == 4)
  assert(t[far] == nil and t[far + 1] == far)
  t = holes()
  assert(table.remove(t, 2) == 2 and t[1] == 1 and t[2] == nil and t[3] == 4 and t[far - 1] == far and t[far] == nil)
  t = holes()
  assert(table.remove(t, 1, "more") == 1 and t[1] == 2 and t[3] == 4 and t[far - 1] == far)
  assert(not pcall(table.insert, holes(), 1, 2, 3))
  t = table.move(holes(), 1, far, 2)
  assert(t[1] == 1 and t[2] == 1 and t[3] == 2 and t[4] == nil and t[5] == 4 and t[far] == nil and t[far + 1] == far)
  t = table.move(holes(), 2, far, 1)
  assert(t[1] == 2 and t[2] == nil and t[3] == 4 and t[far - 1] == far and t[far] == far)
  t = table.move(holes(), 0, far, 0, {})
  assert(t[0] == nil and t[1] == 1 and t[4] == 4 and t[far] == far)
  for _, arguments in ipairs{{1, far}, {1, far, "x"}, {1, "x", 1}, {1, far + 0.5, 1}, {1, far, math.maxinteger - 1}} do
    local ok, message = pcall(table.move, holes(), table.unpack(arguments))
    assert(not ok and message:find("bad argument #", 1, true), message)
  end
end)

it("moves very many elements, as the stock functions do", function()
  local many, t = 300000, {}
  for i = 1, many do t[i] = i end
  table.insert(t, 1, 0)
  assert(#t == many + 1 and t[1] == 0 and t[2] == 1 and t[many + 1] == many)
  assert(table.remove(t, 1) == 0 and #t == many and t[1] == 1 and t[many] == many)
  assert(table.move(t, 1, many, 2) == t and t[1] == 1 and t[2] == 1 and t[many + 1] == many)
  local copy = table.move(t, 2, many + 1, 1, {})
  assert(#copy == many and copy[1] == 1 and copy[many] == many)
  local ok, message = pcall(table.insert, t, -many, 2)
  assert(not ok and message:find("position out of bounds", 1, true), message)
  ok, message = pcall(table.move, t, math.mininteger, math.maxinteger, 1)
  assert(not ok and message:find("too many elements to move", 1, true), message)
end)

it("takes for long tables the time that they take with lua5.3", function()
  local function least_time_of_an_element(size)
    local t, least = {}, math.huge
    for i = 1, size do t[i] = i end
    for _ = 1, 20 do
      local began = os.clock()
      table.insert(t, 1, 0)
      table.remove(t, 1)
      least = math.min(least, os.clock() - began)
    end
    return least / size
  end
  local short, long = least_time_of_an_element(250000), least_time_of_an_element(270000)
  assert(long < 2 * short, long / short)
end)
