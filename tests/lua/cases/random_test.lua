-- math.random with a generator of each Lua state, and evlua.random_bytes; load and bytecode.
local evlua = require "evlua"
local thread = require "evlua.thread"
local raises = dofile((...):gsub("[^/]*$", "../support.lua")).raises

it("has the ranges of the stock function, and refuses what it refuses", function()
  for _ = 1, 1000 do
    local x = math.random()
    assert(math.type(x) == "float" and x >= 0 and x < 1)
    local i = math.random(6)
    assert(math.type(i) == "integer" and i >= 1 and i <= 6)
    i = math.random(-3, 3)
    assert(i >= -3 and i <= 3)
    assert(math.random(5, 5) == 5 and math.random(math.maxinteger, math.maxinteger) == math.maxinteger)
    assert(math.random(0, math.maxinteger) >= 0)
    assert(math.random(math.mininteger, -1) < 0)
  end
  raises("bad argument #1 to 'math.random' (interval is empty)", math.random, 0)
  raises("bad argument #2 to 'math.random' (interval is empty)", math.random, 2, 1)
  raises("interval too large", math.random, math.mininteger, 0)
  raises("wrong number of arguments", math.random, 1, 2, 3)
  raises("number has no integer representation", math.random, 1.5)
  raises("bad argument #1 to 'math.randomseed' (number expected, got no value)", math.randomseed)
end)

it("gives all values of a small range about equally often", function()
  local counts = {0, 0, 0, 0, 0, 0, 0}
  for _ = 1, 70000 do local i = math.random(7) counts[i] = counts[i] + 1 end
  for i = 1, 7 do assert(counts[i] > 9000 and counts[i] < 11000, counts[i]) end
end)

it("gives the same numbers again for a seed of any kind, and others for another", function()
  local function numbers(seed)
    math.randomseed(seed)
    local list = {}
    for i = 1, 20 do list[i] = math.random(0, math.maxinteger) end
    return table.concat(list, " ")
  end
  for _, seed in ipairs{0, 1, -1, 42, math.maxinteger, math.mininteger, 1.5, 1e300, 0/0, 1/0} do
    assert(numbers(seed) == numbers(seed), seed)
  end
  assert(numbers(1) == numbers(1.0) and numbers(1) ~= numbers(2) and numbers(1.5) ~= numbers(1))
end)

it("has a generator of its own in each Lua state", function()
  local first, second = thread.run(function() return math.random(0, math.maxinteger) end),
                        evlua.random_bytes(8)
  math.randomseed(7)
  local before = {math.random(1 << 30), math.random(1 << 30)}
  math.randomseed(7)
  assert(math.random(1 << 30) == before[1])
  thread.run(function() math.randomseed(99) return math.random() end)
  assert(math.random(1 << 30) == before[2])
  assert(math.type(first) == "integer" and #second == 8)
end)

it("gives random bytes", function()
  assert(evlua.random_bytes(0) == "" and #evlua.random_bytes(1) == 1 and #evlua.random_bytes(1 << 20) == 1 << 20)
  assert(evlua.random_bytes(16) ~= evlua.random_bytes(16))
  local seen = {}
  for byte in evlua.random_bytes(65536):gmatch(".") do seen[byte] = true end
  for i = 0, 255 do assert(seen[string.char(i)], i) end
  raises("random_bytes", evlua.random_bytes, -1)
  raises("random_bytes", evlua.random_bytes, (1 << 20) + 1)
  raises("random_bytes", evlua.random_bytes)
end)

it("loads bytecode only when it is told to take it", function()
  local dumped = string.dump(function(...) return ..., "from bytecode" end)
  local chunk, message = load(dumped)
  assert(chunk == nil and message == "attempt to load a binary chunk (mode is 't')", message)
  assert(load(dumped, "name", nil) == nil)
  assert(load(function() local piece = dumped dumped = nil return piece end) == nil)
  dumped = string.dump(function(...) return ..., "from bytecode" end)
  assert(select(2, load(dumped, "name", "b")(1)) == "from bytecode")
  assert(select(2, load(dumped, "name", "bt")(1)) == "from bytecode")
  assert(load("return 1")() == 1 and load("return x", "name", nil, {x = 2})() == 2)
  assert(load("return x", "name", "t", {x = 3})() == 3 and load("x = ", "=name") == nil)
  assert(select(2, load("return 1", "name", "b")):find("attempt to load a text chunk", 1, true))
  local pieces = {"return ", "4"}
  assert(load(function() return table.remove(pieces, 1) end)() == 4)
  assert(not pcall(load("return _ENV.x", "name", nil, nil)))   -- an environment of nil is one
  raises("bad argument #1 to 'load'", load, {})
end)
