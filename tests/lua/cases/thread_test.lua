-- evlua.thread: calls in other Lua states, what crosses, channels, select, pools, cancellation.
local evlua = require "evlua"
local thread = require "evlua.thread"
local shared = require "evlua.shared"
package.path = debug.getinfo(1, "S").source:match("^@(.*)/") .. "/../scripts/?.lua;" .. package.path
local raises = dofile((...):gsub("[^/]*$", "../support.lua")).raises

local function echo(...) return ... end
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end

it("brings back what crosses as it was", function()
  local big = ("0123456789"):rep(200000)
  local values = {true, false, 0, -1, math.maxinteger, math.mininteger, 1.5, -0.0, math.huge, "", "a\0b", big}
  for _, value in ipairs(values) do
    local got = thread.run(echo, value)
    assert(got == value and math.type(got) == math.type(value))
  end
  assert(thread.run(echo, 0 / 0) ~= thread.run(echo, 0 / 0))
  assert(select("#", thread.run(echo)) == 0 and select("#", thread.run(echo, nil, 1, nil)) == 3)
  local many = table.pack(thread.run(echo, table.unpack(values)))
  assert(many.n == #values and many[12] == big)
end)

it("copies tables: nested, shared, cyclic, large, with odd keys and without metatables", function()
  local t = {1, 2, 3, {x = {y = {z = "deep"}}}, [2.5] = "float key", [true] = "boolean key"}
  t.self, t.twice, t.again = t, {1}, nil
  t.again = t.twice
  t[t.twice] = "table key"
  local r = thread.run(function(got)
    assert(got.self == got and got.twice == got.again and got[got.twice] == "table key")
    got.new = "only in the copy"
    return got
  end, t)
  assert(r ~= t and r.self == r and r[4].x.y.z == "deep" and r[2.5] == "float key" and r[true] == "boolean key")
  assert(r.new and not t.new and #r == 4)
  local list = {}
  for i = 1, 100000 do list[i] = i end
  local sum, last = thread.run(function(l) local s = 0 for i = 1, #l do s = s + l[i] end return s, l[#l] end, list)
  assert(sum == 5000050000 and last == 100000)
  assert(getmetatable(thread.run(echo, setmetatable({}, {__index = t}))) == nil)
  local nested = {}
  for _ = 1, 1000 do nested = {nested} end
  assert(type(thread.run(echo, nested)) == "table")
  for _ = 1, 100000 do nested = {nested} end
  raises("nested", thread.run, echo, nested)
end)

it("copies functions with their upvalues, and finds modules and C functions by name", function()
  local base, helper = 10, {add = function(a, b) return a + b end}
  assert(thread.run(function(x) base = base + x return helper.add(base, 1) end, 5) == 16 and base == 10)
  assert(thread.run(fib, 15) == 610)
  assert(thread.run(function() evlua.sleep(0.001) return shared.dict ~= nil and evlua == require "evlua" end))
  assert(thread.run(math.max, 1, 3, 2) == 3 and thread.run(echo, print) == print)
  assert(thread.run(function(f) return f("x", 3) end, string.rep) == "xxx")
  some_global = 1
  assert(thread.run(function() local was = some_global some_global = 2 return was == nil end) and some_global == 1)
  some_global = nil
  function global_function() return "global" end
  assert(thread.run(global_function) == "global")
  global_function = nil
  assert(thread.run(echo, fib)(10) == 55)
  local product, loaded = thread.run("thread_module", 6, 7)
  assert(product == 42 and loaded == true)
end)

it("carries shared things, and objects by their __transfer", function()
  local dict = shared.dict("crossing")
  assert(thread.run(function(d) d:set("k", "v") return d end, dict) == dict and dict:get("k") == "v")
  local clock = setmetatable({}, {__transfer = function() return "string", "rep", "tick", 2 end})
  assert(thread.run(echo, clock) == "ticktick")
end)

it("tells where what cannot cross was", function()
  raises("thread_test.lua", function() thread.run(echo, io.stdout) end)
  raises("cannot copy a FILE*", thread.run, echo, io.stdout)
  raises("it is at a.b[2]", thread.run, echo, {a = {b = {1, coroutine.create(print)}}})
  raises("upvalue 'file'", function() local file = io.stdout thread.run(function() return file end) end)
  raises("cannot copy a FILE*", thread.run, function() return io.stdout end)
  raises("function or module name expected, got no value", thread.run)
  raises("module 'no.such' not found", thread.run, "no.such")
  raises("__transfer", thread.run, echo, setmetatable({}, {__transfer = function() end}))
end)

it("raises errors at the joiner, with the traceback of the other side", function()
  raises("thread_test.lua:", thread.run, function() error("boom") end)
  local ok, value = pcall(thread.run, function() error({code = 7}) end)
  assert(not ok and value.code == 7)
  ok, value = pcall(thread.run, function() error(io.stdout) end)
  assert(not ok and type(value) == "string" and value:find("^file"))
  ok, value = pcall(thread.run, function() error() end)
  assert(not ok and value == nil)
  local failed = thread.spawn(function() local function inner() error("inner boom") end inner() end)
  raises("inner boom", failed.join, failed)
  assert(failed:status() == "failed")
end)

it("waits for tasks of the other state, which can start threads", function()
  local ch = thread.channel(10)
  thread.run(function() evlua.spawn(function() evlua.sleep(0.01) ch:send("late") end) end)
  assert(ch:size() == 1 and ch:receive() == "late")
  assert(thread.run(function() return thread.run(function() return thread.run(fib, 10) end) end) == 55)
  local a, b, c = evlua.all{
    function() return thread.run(fib, 5) end, function() return thread.run(fib, 6) end,
    function() return thread.run(fib, 7) end,
  }
  assert(a == 5 and b == 8 and c == 13)
end)

it("cancels what waits, what computes and what catches errors", function()
  local function ended_soon(f)
    local began = evlua.now()
    assert.fails("ETIMEDOUT", evlua.timeout(0.02, function() return thread.run(f) end))
    assert(evlua.now() - began < 20)
  end
  ended_soon(function() evlua.sleep(100) end)
  if not os.getenv("EVLUA_SANITIZE"):find("thread") then  -- TSan holds signals back: nothing ends a slice
    ended_soon(function() while true do end end)
    ended_soon(function() while true do pcall(function() while true do end end) end end)
    if thread.workers() > 1 then  -- what cannot be suspended has a worker for itself
      ended_soon(function() table.sort({3, 2, 1}, function() while true do end end) end)
    end
    ended_soon(function() local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end end)
  end
  local task = thread.spawn(function() thread.channel():receive() end)
  evlua.yield()
  assert(task:cancel())
  assert.fails("ECANCELED", task:join())
end)

it("has channels with order, capacity, rendezvous, closing and timeouts", function()
  local ch = thread.channel(2)
  assert(ch:send(1, {timeout = 0}) and ch:send(2) and ch:size() == 2)
  assert.fails("ETIMEDOUT", ch:send(3, {timeout = 0.005}))
  assert(ch:receive() == 1 and ch:receive() == 2)
  assert.fails("ETIMEDOUT", ch:receive{timeout = 0.005})
  assert(tostring(ch):find("^channel %(0 of 2%)"))
  local rendezvous = thread.channel()
  assert.fails("ETIMEDOUT", rendezvous:send(1, {timeout = 0.005}))
  local sender = evlua.spawn(function() return rendezvous:send("met") end)
  evlua.yield()
  assert(sender:status() == "waiting" and rendezvous:receive() == "met" and sender:join() == true)
  local waiting = evlua.spawn(rendezvous.receive, rendezvous)
  evlua.yield()
  rendezvous:close()
  assert.fails("EOF", waiting:join())
  assert.fails("EPIPE", rendezvous:send(1))
  assert.fails("EOF", rendezvous:receive())
  assert(rendezvous:closed() and not ch:closed())
  raises("nil stands for the end", ch.send, ch, nil)
  raises("cannot copy", ch.send, ch, io.stdout)
  raises("number from 0", thread.channel, -1)
  ch:send(rendezvous)
  assert(ch:receive() == rendezvous)
  raises("over itself", ch.send, ch, {ch})
  raises("over itself", thread.select, {{ch, ch}})
  assert(ch:size() == 0)
  ch:send("last")
  ch:close()
  local got = {}
  for value in ch do got[#got + 1] = value end
  assert(#got == 1 and got[1] == "last")
end)

it("hands every value to one state, in order for each producer", function()
  local jobs, results = thread.channel(4), thread.channel(4)
  local workers = {}
  for i = 1, 3 do
    workers[i] = thread.spawn(function() for n in jobs do results:send({n, n * n}) end end)
  end
  evlua.spawn(function() for i = 1, 300 do jobs:send(i) end jobs:close() end)
  local seen, count = {}, 0
  for _ = 1, 300 do
    local pair = results:receive{timeout = 60}
    assert(pair[2] == pair[1] ^ 2 and not seen[pair[1]])
    seen[pair[1]], count = true, count + 1
  end
  for i = 1, 3 do workers[i]:join() end
  assert(count == 300 and results:size() == 0)
end)

it("selects channels", function()
  local x, y = thread.channel(1), thread.channel(1)
  assert.fails("ETIMEDOUT", thread.select({x, y}, {timeout = 0.005}))
  y:send("from y")
  local index, what = thread.select{x, y}
  assert(index == 2 and what == "from y")
  index, what = thread.select{{x, "to x"}, y}
  assert(index == 1 and what == true and x:receive() == "to x")
  local later = thread.spawn(function() evlua.sleep(0.005) x:send("later") end)
  index, what = thread.select{x, y}
  assert(index == 1 and what == "later")
  later:join()
  y:close()
  local i, none, message, code = thread.select{x, y}
  assert(i == 2 and none == nil and code == "EOF" and message)
  local self_talk = thread.channel()
  assert.fails("ETIMEDOUT", thread.select({self_talk, {self_talk, 1}}, {timeout = 0.005}))
  raises("element 2", thread.select, {x, 1})
  raises("list of channels", thread.select, {})
  raises("element 1", thread.select, {{x}})
end)

it("keeps states in pools", function()
  local pool = thread.pool(2)
  assert(pool:size() == 2)
  assert(table.concat(pool:map({10, 11, 12, 13}, fib), " ") == "55 89 144 233")
  raises("pool boom", pool.run, pool, error, "pool boom")
  pool:run(function() counter = 0 end)
  pool:run(function() counter = 0 end)
  local total = 0
  for _ = 1, 10 do total = total + pool:run(function() counter = (counter or 0) + 1 return 1 end) end
  assert(total == 10)
  local slow = {}
  for n = 1, 6 do slow[n] = pool:spawn(function(k) evlua.sleep(0.002) return k end, n) end
  for n = 1, 6 do assert(slow[n]:join() == n) end
  assert.fails("ETIMEDOUT", evlua.timeout(0.01, function() return pool:run(function() evlua.sleep(100) end) end))
  assert(pool:run(fib, 10) == 55)
  pool:close()
  assert.fails("EBADF", pool:run(fib, 10))
  assert.fails("EBADF", pool:map({1, 2}, fib))
  assert.fails("EBADF", pool:map({}, fib))
  raises("thread pool expected, got table", pool.run, {}, print)
  raises("thread pool expected, got nil", pool.size)
  pool = thread.pool(1)
  local mapping = evlua.spawn(pool.map, pool, {1, 2, 3}, function() evlua.sleep(0.01) end)
  evlua.yield()
  pool:close()
  assert.fails("EBADF", mapping:join())
  pool = nil
  collectgarbage()
  collectgarbage()
  raises("1 to 1024", thread.pool, 0)
end)

it("takes only numbers as timeouts", function()
  raises("option 'timeout': not a number", thread.channel().receive, thread.channel(), {timeout = 0 / 0})
  raises("not a number", evlua.spawn(fib, 1).join, evlua.spawn(fib, 1), 0 / 0)
end)

it("sends long strings in blocks, which the receiver's collector frees, read or not", function()
  local function echo(...) return ... end
  for size = 4094, 4098 do
    local long = ("\0abc"):rep(2000):sub(1, size)
    assert(thread.run(echo, long) == long and thread.run(echo, {[long] = {long, long}})[long][2] == long)
    assert(thread.run(function() return #long + #long:upper() end) == 2 * size)
  end
  local big = ("x"):rep(1 << 20)
  assert(thread.run(function(...)
    for _ = 1, 100 do collectgarbage "step" end
    local kept = select(2, ...) .. "!"
    collectgarbage()
    return #kept
  end, big, big) == #big + 1)
  raises("no luck", thread.run, function() error("no luck" .. big) end)
  raises("cannot copy", thread.run, echo, big, io.stdout)
  local never = thread.channel(1)
  never:send(big)
  never = nil
  collectgarbage()
end)

it("runs finalizers before the call ends", function()
  local written = os.tmpname()
  thread.run(function(name)
    local out = io.open(name, "w")
    object = setmetatable({}, {__gc = function() out:write("finalized") end})
  end, written)
  assert(io.open(written):read("a") == "finalized")
  os.remove(written)
end)

