-- evlua.shared: dictionaries, watches, locks, once, counters, histograms, as one Vm sees them.
local evlua = require "evlua"
local shared = require "evlua.shared"
local raises = dofile((...):gsub("[^/]*$", "../support.lua")).raises

local d = shared.dict("plain")

it("gives values back as they went in", function()
  local big = ("\0\xff"):rep(100000)
  local scalars = {0, -1, math.maxinteger, math.mininteger, 0.5, -0.0, math.huge, true, false}
  for _, value in ipairs{"", "text", "\0", big, table.unpack(scalars)} do
    assert(d:set("k", value) == true)
    local got = d:get("k")
    assert(got == value and math.type(got) == math.type(value))
    assert(d:set("other" .. tostring(value):sub(1, 20), value))
  end
  assert(d:get("nothing") == nil and d:get("") == nil)
  assert(d:set("", "empty key") and d:get("") == "empty key")
  assert(d:set("a\0b", 1) and d:get("a\0b") == 1 and d:get("a") == nil)
  assert(d:set(12, "number as key") and d:get("12") == "number as key")
  assert(d:set("k", nil) == true and d:get("k") == nil)
  assert(shared.dict("plain"):get("12") == "number as key")
end)

it("adds, replaces and deletes", function()
  assert(d:add("new", 1) == true)
  assert.fails("EEXIST", d:add("new", 2))
  assert(d:get("new") == 1 and d:replace("new", "two") and d:get("new") == "two")
  assert.fails("ENOENT", d:replace("absent", 1))
  assert(d:get("absent") == nil)
  assert(d:delete("new") == true and d:delete("new") == false)
end)

it("counts", function()
  assert(d:incr("n") == 1 and d:incr("n", 5) == 6 and d:incr("n", -7) == -1 and d:get("n") == -1)
  assert(d:incr("f", 0.5, {init = 10}) == 10.5 and math.type(d:incr("f", 0.5)) == "float")
  assert.fails("ENOENT", d:incr("no", 1, {init = false}))
  d:set("text", "x")
  assert.fails("EINVAL", d:incr("text"))
  assert(d:set("wraps", math.maxinteger) and d:incr("wraps") == math.mininteger)
end)

it("sets and updates what has not changed meanwhile", function()
  assert(d:cas("c", nil, 1) == true)
  local ok, present = d:cas("c", 2, 3)
  assert(ok == false and present == 1)
  assert(d:cas("c", 1, "s") and d:cas("c", "s", 1.0) and d:cas("c", 1, nil) and d:get("c") == nil)
  assert(d:update("u", function(old) assert(old == nil) return 1 end) == 1)
  assert(d:update("u", function(old) return old + 1 end) == 2)
  assert(d:update("u", function() return nil end) == nil and d:get("u") == nil)
  raises("returned a table", d.update, d, "u", function() return {} end)
  raises("returned a userdata", d.update, d, "u", function() return require("evlua.json").null end)
  raises("boom", d.update, d, "u", function() error("boom") end)
  do -- what changes meanwhile is seen: the function runs again; and it may wait
    local runs = 0
    assert(d:update("race", function(old)
      runs = runs + 1
      if runs == 1 then d:set("race", 10) end
      evlua.sleep(0.001)
      return (old or 0) + 1
    end) == 11 and runs == 2)
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = evlua.spawn(d.update, d, "sum", function(old) evlua.yield() return (old or 0) + i end)
    end
    for i = 1, 20 do tasks[i]:join() end
    assert(d:get("sum") == 210)
  end
end)

it("forgets what has a time to live", function()
  d:set("text", "x")
  assert(d:set("short", 1, {ttl = 0.02}) and d:get("short") == 1)
  local left = d:ttl("short")
  assert(left > 0 and left <= 0.02)
  assert(d:ttl("text") == math.huge)
  assert.fails("ENOENT", d:ttl("nowhere"))
  local limit = evlua.now() + 10
  while d:get("short") ~= nil do assert(evlua.now() < limit) evlua.sleep(0.002) end
  assert(d:add("short", 2) == true)
  assert(d:expire("short", 100) and d:ttl("short") > 90 and d:expire("short", nil) and d:ttl("short") == math.huge)
  assert(d:expire("nowhere", 1) == false)
  assert(d:incr("window", 1, {ttl = 50}) == 1 and d:incr("window", 1, {ttl = 500}) == 2 and d:ttl("window") <= 50)
  raises("above 0", d.set, d, "x", 1, {ttl = 0})
  raises("above 0", d.expire, d, "x", -1)
end)

it("lists and flushes", function()
  local e = shared.dict("listed")
  for i = 1, 100 do e:set("key" .. i, i) end
  local seen, count = {}, 0
  for _, key in ipairs(e:keys()) do assert(not seen[key]) seen[key] = true count = count + 1 end
  assert(count == 100 and seen.key1 and seen.key100 and #e:keys(7) == 7)
  local info = e:info()
  assert(info.entries == 100 and info.bytes > 100 and info.capacity == 10 * 2 ^ 20 and info.evictions == 0)
  e:flush()
  assert(#e:keys() == 0 and e:info().entries == 0 and e:info().bytes == 0)
end)

it("is bounded, and the entries that were not used for longest go", function()
  local small = shared.dict("small", {bytes = 65536})
  for i = 1, 10000 do
    assert(small:set("k" .. i, ("v"):rep(100)))
    assert(small:get("k1"), "what is used stays")
  end
  local info = small:info()
  assert(info.bytes <= 65536 and info.entries > 100 and info.evictions > 9000)
  assert(small:get("k10000") and not small:get("k2"))
  assert.fails("ELIMIT", small:set("huge", ("x"):rep(70000)))
  assert(small:set("large", ("x"):rep(60000)) and #small:get("large") == 60000)
  local firm = shared.dict("firm", {bytes = 8192, evict = false})
  local n = 0
  while firm:set("k" .. n, ("v"):rep(50)) do n = n + 1 end
  assert.fails("ENOSPC", firm:set("more", ("v"):rep(50)))
  assert(n > 20 and firm:info().entries == n and firm:info().evictions == 0 and firm:get("k0"))
  assert(firm:delete("k0") and firm:set("more", ("v"):rep(50)))
  firm:flush()
  for i = 1, n do assert(firm:set("k" .. i, ("v"):rep(50), {ttl = 0.01})) end
  local limit = evlua.now() + 10
  while not firm:set("after", ("v"):rep(50)) do assert(evlua.now() < limit) evlua.sleep(0.002) end
end)

it("refuses wrong use", function()
  raises("is there already", shared.dict, "plain", {bytes = 9999})
  raises("4096", shared.dict, "tiny", {bytes = 1})
  raises("unknown option 'byte'", shared.dict, "t", {byte = 1})
  raises("name expected", shared.dict, "")
  raises("string expected", shared.dict)
  raises("NUL byte", shared.dict, "a\0b")
  raises("string, number, boolean or nil expected, got table", d.set, d, "k", {})
  raises("value expected", d.set, d, "k")
  raises("got nil", d.add, d, "k", nil)
  raises("string expected", d.get, d)
  raises("table expected, got string", d.get, "k")
  assert(tostring(d):find("^dict: ") and shared.dict("plain") == d)
  raises("number expected", d.incr, d, "k", "1")
  raises("unknown option 'tll'", d.set, d, "k", 1, {tll = 1})
end)

it("tells of changes to those who watch", function()
  local w = d:watch("watched")
  assert.fails("ETIMEDOUT", w:next{timeout = 0.01})
  d:set("unwatched", 1)
  d:set("watched", 1)
  d:set("watched", 2)
  assert(w:next() == "watched")
  assert.fails("ETIMEDOUT", w:next{timeout = 0})
  for _, change in ipairs{
    function() d:incr("watched") end, function() d:cas("watched", 3, 4) end, function() d:delete("watched") end,
    function() d:add("watched", "s") end, function() d:replace("watched", "t") end, function() d:flush() end,
    function() d:update("watched", function() return 1 end) end,
  } do
    change()
    assert(w:next{timeout = 5} == "watched")
  end
  assert.fails("ETIMEDOUT", w:next{timeout = 0})
  assert.fails("ENOENT", d:replace("nothing here", 1))
  local waiting = evlua.spawn(w.next, w)
  evlua.yield()
  assert.fails("EBUSY", w:next())
  d:set("watched", "now")
  assert(waiting:join() == "watched")
  waiting = evlua.spawn(w.next, w)
  evlua.yield()
  w:close()
  w:close()
  assert.fails("EBADF", waiting:join())
  local all = d:watch()
  for i = 1, 5 do d:set("all" .. i, i) end
  local got = {}
  for key in all:changes() do
    got[#got + 1] = key
    if #got == 5 then all:close() end
  end
  assert(table.concat(got, " ") == "all1 all2 all3 all4 all5")
  all = d:watch()
  for i = 1, 5000 do d:set("many" .. i % 4500, i) end
  assert.fails("ENOBUFS", all:next())
  assert(all:next() == "many1")
  all:close()
  assert.fails("ETIMEDOUT", evlua.timeout(0.01, function() return d:watch():next() end))
  collectgarbage()
end)

it("locks", function()
  local lock = assert(shared.lock("door"))
  assert(tostring(lock) == "lock door (held)")
  assert.fails("ETIMEDOUT", shared.lock("door", {timeout = 0.01}))
  local order = {}
  local tasks = {}
  for i = 1, 5 do
    tasks[i] = evlua.spawn(function()
      local mine = assert(shared.lock("door"))
      order[#order + 1] = i
      evlua.sleep(0.001)
      assert(mine:unlock())
    end)
    evlua.yield()
  end
  local impatient = evlua.spawn(shared.lock, "door", {timeout = 0.001})
  assert.fails("ETIMEDOUT", impatient:join())
  local cancelled = evlua.spawn(shared.lock, "door")
  evlua.yield()
  cancelled:cancel()
  assert.fails("ECANCELED", cancelled:join())
  assert(lock:unlock() == true and lock:unlock() == false)
  for i = 1, 5 do tasks[i]:join() end
  assert(table.concat(order) == "12345")
  assert(shared.lock("door", {timeout = 0}):unlock())
  do -- a lock that is forgotten is released by the collector
    assert(shared.lock("forgotten"))
    collectgarbage()
    assert(shared.lock("forgotten", {timeout = 5}):unlock())
  end
  local a, b = shared.with_lock("inside", function(x, y)
    assert.fails("ETIMEDOUT", shared.lock("inside", {timeout = 0.001}))
    return x + y, "b"
  end, 1, 2)
  assert(a == 3 and b == "b")
  raises("inside boom", shared.with_lock, "inside", error, "inside boom")
  assert(shared.lock("inside", {timeout = 0}):unlock())
  raises("function expected", shared.with_lock, "inside", 1)
end)

it("makes what many want once", function()
  local runs = 0
  local function expensive(x)
    runs = runs + 1
    evlua.sleep(0.005)
    return "made of " .. x
  end
  local tasks = {}
  for i = 1, 10 do tasks[i] = evlua.spawn(shared.once, "thing", expensive, i) end
  for i = 1, 10 do assert(tasks[i]:join() == "made of 1") end
  assert(runs == 1)
  raises("first time", shared.once, "again", error, "first time")
  assert(shared.once("again", function() return false end) == false)
  assert(shared.once("again", error) == false)
  assert(shared.once("nothing", function() end) == true)
  raises("the function of once returned a table", shared.once, "table", function() return {} end)
end)

it("counts and measures", function()
  local c = shared.counter("hits")
  c:add()
  c:add(2)
  shared.counter("hits"):add(0.5)
  assert(c:value() == 3.5)
  assert(shared.counter("other"):value() == 0 and math.type(shared.counter("other"):value()) == "integer")
  local h = shared.histogram("latency", {buckets = {1, 2, 4}})
  assert(h:quantile(0.5) == nil)
  for _, value in ipairs{0.5, 1, 1.5, 3, 100} do h:observe(value) end
  local s = shared.histogram("latency"):snapshot()
  assert(s.count == 5 and s.sum == 106 and #s.buckets == 4)
  assert(s.buckets[1].le == 1 and s.buckets[1].count == 2 and s.buckets[2].count == 3 and s.buckets[3].count == 4)
  assert(s.buckets[4].le == math.huge and s.buckets[4].count == 5)
  assert(h:quantile(0) == 0 and h:quantile(0.5) == 1.5 and h:quantile(1) == 4)
  raises("other buckets", shared.histogram, "latency", {buckets = {1}})
  raises("rise", shared.histogram, "h", {buckets = {2, 1}})
  raises("1 to 1000", shared.histogram, "h", {buckets = {}})
  raises("not a number", h.observe, h, 0 / 0)
end)

