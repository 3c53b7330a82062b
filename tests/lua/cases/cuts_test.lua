-- What the runtime does in Lua is not seen half done. Builds with checks end slices at random instructions here.
local evlua, fs = require "evlua", require "evlua.fs"
local thread = require "evlua.thread"

it("maps each element once, with its index", function()
  for _ = 1, 50 do
    local squares = evlua.map({1, 2, 3, 4}, function(n, index)
      evlua.sleep(0.0001)
      assert(n == index)
      return n * n
    end, {concurrency = 2})
    assert(table.concat(squares, " ") == "1 4 9 16")
  end
end)

it("maps in pools", function()
  local pool = thread.pool(2)
  for _ = 1, 50 do
    local squares = pool:map({1, 2, 3}, function(n) return n * n end)
    assert(table.concat(squares, " ") == "1 4 9")
  end
  pool:close()
end)

it("loads a module once for several tasks", function()
  local directory = os.tmpname()
  os.remove(directory)
  assert(fs.mkdir(directory))
  assert(fs.write(directory .. "/once.lua", 'require("evlua").sleep(0.0001) return {name = ...}'))
  package.path = directory .. "/?.lua;" .. package.path
  for _ = 1, 50 do
    local function load_it() return require "once" end
    local a, b, c = evlua.all{load_it, load_it, load_it}
    assert(a == b and b == c and a.name == "once")
    package.loaded.once = nil
  end
  assert(fs.remove(directory .. "/once.lua") and fs.rmdir(directory))
end)

it("does not take a task whose slice was over for one that waits", function()
  -- A task whose slice was over is not waiting. (TSan holds signals back: only random cuts end a slice there.)
  local sanitizer = os.getenv("EVLUA_SANITIZE") or ""
  if not sanitizer:find("thread") or os.getenv("EVLUA_CUT_SLICES") then
    local stop = false
    local busy = evlua.spawn(function() while not stop do end end)
    for _ = 1, 20 do
      evlua.yield()
      assert(busy:status() == "running")
    end
    stop = true
    busy:join()
  end
end)
