// The app that runs behind the simulated server: each of its routes waits in another way, and answers what is expected.
#pragma once

#include <string>

namespace evlua::test {

inline constexpr const char* kApp = R"lua(
local evlua, fs, thread, shared = require "evlua", require "evlua.fs", require "evlua.thread", require "evlua.shared"
local sync = require "evlua.sync"
local counts, lock = shared.dict("sim"), sync.mutex()
shared.dict("evlua.once", {bytes = 64 << 20, evict = false}):flush()  -- of the run before

local routes = {}

function routes.plain(id) return "plain " .. id end

function routes.sleep(id)
  evlua.sleep(id % 7 / 100)
  return "sleep " .. id
end

function routes.tasks(id)
  local sum = 0
  evlua.scope(function(scope)
    for i = 1, 3 do
      scope:spawn(function() evlua.sleep(i / 1000) evlua.yield() lock:with(function() sum = sum + i end) end)
    end
  end)
  return "tasks " .. id .. " " .. math.tointeger(sum)
end

function routes.race(id)
  local late = evlua.spawn(evlua.sleep, 1000)
  local done = evlua.timeout(id % 3 / 100 + 0.001, function() return late:join() end)
  late:cancel()
  late:wait()
  return "race " .. id .. " " .. tostring(done)
end

function routes.coroutine(id)
  local next_value = coroutine.wrap(function() for i = 1, 3 do evlua.sleep(0.001) coroutine.yield(i) end end)
  return ("coroutine %s %d"):format(id, next_value() + next_value() + next_value())
end

function routes.file(id)
  local path = "/f" .. id
  local file = fs.open(path, "w+")
  if not file then return nil end
  local text = ("file %s "):format(id):rep(50)
  local back = file:write(text) and ""
  while back and #back < #text do
    local piece = file:read_at(#text - #back, #back)
    back = piece and back .. piece
  end
  file:close()
  return back
end

function routes.shared(id)
  local name = "lock" .. id % 3
  local held = shared.lock(name, {timeout = 60})
  if not held then return nil end
  local before = counts:get(name) or 0
  evlua.sleep(0.001)
  counts:set(name, before + 1)
  held:unlock()
  return "shared " .. id
end

function routes.thread(id)
  return thread.run(function(text)
    local inner = require "evlua"
    inner.sleep(0.001)
    return "thread " .. text
  end, id)
end

-- Long enough to be cut in many places: in coroutines, behind callbacks of C, in protected calls.
function routes.compute(id)
  local generate = coroutine.wrap(function() for i = 1, 20 do coroutine.yield(i) end end)
  local list = {}
  for i = 1, 20 do list[i] = generate() * 7 % 20 end
  table.sort(list, function(a, b) return a < b end)
  local sum = select(2, pcall(function()
    local total = 0
    for i = 1, 100 do total = total + list[i % 20 + 1] end
    return total
  end))
  return ("compute %s %d"):format(id, sum)
end

function routes.channel(id)
  local jobs, sum = sync.channel(id % 3), 0
  evlua.scope(function(scope)
    for _ = 1, 2 do
      scope:spawn(function()
        local mine = 0
        for n in jobs do evlua.yield() mine = mine + n end
        lock:with(function() sum = sum + mine end)  -- a slice may end in the middle of this
      end)
    end
    for n = 1, 6 do if not jobs:send(n) then break end end
    jobs:close()
  end)
  return sum == 21 and ("channel %s %d"):format(id, sum)
end

function routes.select(id)
  local a, b, done, sum = sync.channel(), sync.channel(1), sync.event(), 0
  evlua.scope(function(scope)
    scope:spawn(function() evlua.sleep(0.001) a:send(1) done:set() end)
    scope:spawn(function() sync.select{{b, 2}, 1000} end)
    for _ = 1, 2 do
      local which, value = sync.select{a, b, 1000}
      if which == 1 or which == 2 then sum = sum + (value or 0) end
    end
    if sync.select({done, 1000}, {timeout = 2000}) == 1 then sum = sum + 4 end
  end)
  return sum == 7 and ("select %s %d"):format(id, sum)
end

local mutex, holder = sync.mutex()

function routes.mutex(id)
  local held = mutex:with(function()
    holder = id
    evlua.sleep(0.001)
    assert(holder == id, "two tasks are in one mutex")
    return true
  end)
  return held and "mutex " .. id
end

function routes.once(id)
  local value = shared.once("sim" .. id % 3, function() evlua.sleep(0.001) return 7 end)
  return value and ("once %s %d"):format(id, value)
end

local pool

function routes.pool(id)
  pool = pool or thread.pool(1)
  local results = pool:map({id, 1}, function(n) require("evlua").yield() return n * 2 end)
  return results and ("pool %s %d"):format(id, results[1] + results[2] - 2 * id)
end

function routes.threads(id)
  local there, back, sum = thread.channel(1), thread.channel(), 0
  evlua.scope(function(scope)
    scope:spawn(function()
      thread.run(function(from, to)
        for value in from do to:send(value * 2) end
      end, there, back)
      there:close()
      back:close()
    end)
    local sent = 0
    while true do
      local which, value = thread.select(sent < 3 and {{there, sent + 1}, back} or {back})
      if not which then
        break
      elseif sent < 3 and which == 1 then
        sent = sent + 1
        if sent == 3 then there:close() end
      elseif value then
        sum = sum + value
      else
        break
      end
    end
  end)
  return sum == 12 and ("threads %s %d"):format(id, sum)
end

local function handle(req, res)
  if req.method == "POST" then
    local body = req:body(100000)
    if body then res:text(body) else res:status(400):text("no body") end
    return
  end
  local kind, id = req.path:match("^/(%a+)/(%d+)$")
  if kind == "remote" then return res:text("remote " .. id .. " " .. req.remote) end
  if kind == "stream" then
    for i = 1, 5 do
      if not res:write(("stream %s %d\n"):format(id, i)) then return end
      evlua.sleep(i / 1000)
    end
    return
  end
  local answer = routes[kind](id)
  if answer then res:text(answer) else res:status(500):text("failed") end
end

return function(req, res)
  local ok, message = xpcall(handle, debug.traceback, req, res)
  if ok then return end
  for _, reason in ipairs{"cancelled", "the server stops", "not enough memory"} do
    if message:find(reason) then error(message, 0) end
  end
  io.stderr:write("error in a handler: ", message, "\n")
  evlua.exit(1)
end
)lua";

inline std::string expected(const std::string& kind, const std::string& id) {
  if (kind == "tasks") return "tasks " + id + " 6";
  if (kind == "race") return "race " + id + " nil";
  if (kind == "coroutine") return "coroutine " + id + " 6";
  if (kind == "compute") return "compute " + id + " 950";
  if (kind == "channel") return "channel " + id + " 21";
  if (kind == "select") return "select " + id + " 7";
  if (kind == "once") return "once " + id + " 7";
  if (kind == "pool") return "pool " + id + " 2";
  if (kind == "threads") return "threads " + id + " 12";
  std::string text;
  if (kind == "file") {
    for (int i = 0; i < 50; ++i) text += "file " + id + " ";
  } else if (kind == "stream") {
    for (int i = 1; i <= 5; ++i) text += "stream " + id + " " + std::to_string(i) + "\n";
  } else {
    text = kind + " " + id;
  }
  return text;
}

}  // namespace evlua::test
