-- The io library among tasks: what waits suspends its coroutine only, and handles can be shared.
local evlua = require "evlua"
local fs = require "evlua.fs"

local folder = os.tmpname()
assert(os.remove(folder))
assert(fs.mkdir(folder))
local function path(name) return folder .. "/" .. name end
after_all(function() assert(fs.remove_all(folder)) end)

it("lets others go on while one waits for a command, a pipe, a child", function()
  local ticks = 0
  local ticker = evlua.spawn(function() while evlua.sleep(0.001) do ticks = ticks + 1 end end)
  local function ticks_during(f)
    local before = ticks
    f()
    assert(ticks > before, "the thread was blocked")
  end
  ticks_during(function() assert(os.execute("sleep 0.1")) end)
  ticks_during(function()
    local pipe = assert(io.popen("sleep 0.1; echo done; sleep 0.1; exit 4"))
    assert(pipe:read("l") == "done")
    ticks_during(function()
      local fine, how, code = pipe:close()
      assert(fine == nil and how == "exit" and code == 4)
    end)
  end)
  ticks_during(function()  -- more than a pipe holds, to one that reads late
    local pipe = assert(io.popen("sleep 0.1; wc -c >" .. path("counted"), "w"))
    for _ = 1, 20 do assert(pipe:write(("x"):rep(50000))) end
    assert(pipe:close())
    assert(assert(io.open(path("counted"))):read("n") == 1000000)
  end)
  ticker:cancel()
end)

it("runs a hundred commands at once", function()
  local commands = {}
  for i = 1, 100 do
    commands[i] = function()
      local pipe = assert(io.popen("echo " .. i))
      local n = pipe:read("n")
      assert(pipe:close())
      return n
    end
  end
  local results = table.pack(evlua.all(commands))
  for i = 1, 100 do assert(results[i] == i) end
end)

it("keeps the bytes of each call together when many write to one handle", function()
  for _, mode in ipairs{"full", "line", "no"} do
    local file = assert(io.open(path("shared"), "w"))
    assert(file:setvbuf(mode))
    local writers = {}
    for w = 1, 10 do
      writers[w] = function()
        for i = 1, 50 do
          assert(file:write("<", w, ":", i, ("."):rep(w * 100), ">\n"))
          if i % 7 == 0 then evlua.sleep(0) end
          if i % 11 == 0 then assert(file:flush()) end
        end
        return true
      end
    end
    evlua.all(writers)
    assert(file:close())
    local seen, count = {}, 0
    for line in io.lines(path("shared")) do
      local w, i, dots = line:match("^<(%d+):(%d+)(%.+)>$")
      assert(w and #dots == w * 100, line)
      assert((seen[w] or 0) + 1 == tonumber(i), "out of order")
      seen[w] = tonumber(i)
      count = count + 1
    end
    assert(count == 500)
  end
end)

it("gives every line to exactly one of many that read from one handle", function()
  local feeder = assert(io.popen("for i in 1 2 3 4 5 6 7 8 9; do echo start$i; sleep 0.005; echo end$i; done"))
  local got, readers = {}, {}
  for r = 1, 5 do
    readers[r] = function()
      for first, second in feeder:lines("l", "l") do
        assert(first:match("%d") == second:match("%d") and first:find("start") and second:find("end"))
        table.insert(got, (first:match("%d")))
      end
      return true
    end
  end
  evlua.all(readers)
  table.sort(got)
  assert(table.concat(got) == "123456789", table.concat(got))
  assert(feeder:close())
end)

it("gives the turn of a reader that is cancelled to the next, and ends the wait of one by closing", function()
  local silent = assert(io.popen("echo $$; exec sleep 100"))
  local sleeper = assert(silent:read("n", "l"))
  local first = evlua.spawn(function() return silent:read("a") end)
  local second = evlua.spawn(function() return silent:read("l") end)
  evlua.yield()
  first:cancel()
  local reason = select(3, first:join())
  assert(reason == "ECANCELED", reason)
  assert(os.execute("kill " .. sleeper))
  assert(second:join() == nil)
  local _, how, signal = silent:close()
  assert(how == "signal" and signal == 15)
  local endless = assert(io.popen("echo $$; exec sleep 100"))
  sleeper = assert(endless:read("n", "l"))
  local third = evlua.spawn(function() return pcall(endless.read, endless, "l") end)
  local closer = evlua.spawn(function() return endless:close() end)
  evlua.yield()
  assert(os.execute("kill " .. sleeper))
  local fine, line = third:join()
  assert(fine == false or line == nil)
  _, how, signal = closer:join()
  assert(how == "signal" and signal == 15)
end)

it("ends a command with the task that waits for it", function()
  local began = evlua.now()
  local nothing, _, why = evlua.timeout(0.05, os.execute, "exec sleep 100")
  assert(nothing == nil and why == "ETIMEDOUT" and evlua.now() - began < 50)
end)

it("blocks, and works all the same, where nothing can wait", function()
  local words = {path("words")}
  assert(fs.write(words[1], "some words"))
  local size = ("FILE"):gsub("FILE", function()
    local f = assert(io.open(words[1]))
    local n = #f:read("a")
    f:close()
    return n
  end)
  assert(tonumber(size) > 0)
  table.sort({2, 1}, function(a, b)
    local f = assert(io.open(path("inside"), "w"))
    assert(f:write("x") and f:flush() and f:seek("cur") == 1 and f:close())
    assert(os.execute("true") and io.popen("echo inside"):read("l") == "inside")
    assert(os.remove(path("inside")))
    return a < b
  end)
  do
    local told
    setmetatable({}, {__gc = function()
      local f = io.open(path("finalizer"), "w")
      f:write("x")
      f:close()
      told = true
    end})
    collectgarbage()
    assert(told and io.open(path("finalizer")):read("a") == "x")
  end
end)

it("writes what collected handles hold, and leaves no descriptor behind", function()
  local function descriptors() local n = 0 for _ in fs.dir("/proc/self/fd") do n = n + 1 end return n end
  collectgarbage() collectgarbage()
  evlua.sleep(0.02)
  local before = descriptors()
  for i = 1, 200 do assert(io.open(path("left" .. i), "w")):write("kept ", i) end
  collectgarbage() collectgarbage()
  local deadline = evlua.now() + 20
  local function settled() return descriptors() <= before and #assert(fs.read(path("left200"))) > 0 end
  while not settled() and evlua.now() < deadline do evlua.sleep(0.005) end
  assert(descriptors() <= before)
  for i = 1, 200 do assert(fs.read(path("left" .. i)) == "kept " .. i) end
end)

it("tells at the latest in close of a write that fails after it has returned", function()
  local file = assert(io.open("/dev/full", "w"))
  file:write(("x"):rep(70000))
  evlua.sleep(0.01)
  local ok, _, code = file:close()
  assert(not ok and code == 28, code)  -- ENOSPC
end)
