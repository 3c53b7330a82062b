-- Whatever is cancelled and whatever times out: each value that was sent is received exactly once, and one whose send
-- has failed never is; a lock has one holder; permits are neither lost nor made. In random order, by many tasks.
-- A script: whoever looks for an interleaving runs it again and again with EVLUA_SEED.
local evlua, sync = require "evlua", require "evlua.sync"
local seed = tonumber(os.getenv("EVLUA_SEED")) or os.time()
local state = seed  -- a generator of our own: what tasks draw from it depends on their order only
local function random(n)
  state = (state * 6364136223846793005 + 1442695040888963407)
  return (state >> 33) % n + 1
end
local function check(good, ...)
  if not good then error(("seed %d: "):format(seed) .. table.concat({...}, " "), 2) end
end

local TASKS, ROUNDS, VALUES = 8, 12, 25

-- Cancels random tasks, a few times, while others run.
local function harass(tasks)
  for _ = 1, TASKS do
    for _ = 1, random(6) do evlua.yield() end
    if random(3) == 1 then tasks[random(#tasks)]:cancel() end
  end
end

local function pause()
  local kind = random(4)
  if kind == 1 then return evlua.yield() end
  if kind == 2 then return evlua.sleep(random(3) / 10000) end
  return true
end

local function options()
  if random(3) ~= 1 then return nil end
  return {timeout = random(4) == 1 and 0 or random(10) / 10000}
end

local function channels()
  local channel = {}
  for i = 1, 3 do channel[i] = sync.channel(random(4) - 1) end
  local sent, failed, received = {}, {}, {}

  local function got(value)
    check(value.number, "a value")
    check(not received[value.number], "twice", value.number)
    received[value.number] = true
  end
  local function produce(name)
    for i = 1, VALUES do
      if not pause() then return end
      local value, to = {number = name * VALUES + i}, random(3)
      local ok
      if random(2) == 1 then
        ok = channel[to]:send(value, options())
      else
        local other = random(3)
        local case, done, _, code = sync.select({channel[to]}, {timeout = 0})
        if case then
          if done ~= nil then got(done) else check(code == "EOF", code) end
        end
        case, ok = sync.select({{channel[to], value}, {channel[other], value}}, options())
        if case == nil then ok = nil end
      end
      if ok then sent[value.number] = true else failed[value.number] = true end
    end
  end
  local function consume()
    while true do
      if not pause() then return end
      local value, _, code, case
      if random(2) == 1 then
        value, _, code = channel[random(3)]:receive(options())
      else
        case, value, _, code = sync.select({channel[1], channel[2], channel[3], random(5) / 10000})
        if case == nil then value, code = nil, "ECANCELED" end
        if value == true then value, code = nil, "ETIMEDOUT" end
      end
      if value ~= nil then
        got(value)
      elseif code == "EOF" or code == "ECANCELED" then
        if code == "ECANCELED" or random(4) == 1 then return end
      end
    end
  end
  local tasks, producers = {}, {}
  for i = 1, TASKS do
    producers[i] = evlua.spawn(produce, i)
    tasks[#tasks + 1] = producers[i]
    tasks[#tasks + 1] = evlua.spawn(consume)
  end
  harass(tasks)
  -- What the producers that are left cannot get rid of otherwise.
  local drain = evlua.spawn(function()
    while true do
      local case, value = sync.select({channel[1], channel[2], channel[3]}, {timeout = 0.001})
      if case and value == nil then return end
      if case then got(value) end
    end
  end)
  for _, task in ipairs(producers) do task:wait() end
  for i = 1, 3 do channel[i]:close() end
  drain:wait()
  for _, task in ipairs(tasks) do task:join() end
  drain:join()
  for i = 1, 3 do
    for value in channel[i] do got(value) end
  end
  for number in pairs(sent) do check(received[number], "lost", number) end
  for number in pairs(failed) do check(not received[number], "failed but received", number) end
end

local function locks()
  local mutex, rwlock, semaphore = sync.mutex(), sync.rwlock(), sync.semaphore(3)
  local holders, readers, writers, taken = 0, 0, 0, 0
  local function add(r, w, t)
    readers, writers, taken = readers + r, writers + w, taken + t
    check(writers == 0 or (writers == 1 and readers == 0), "a writer is not alone")
    check(taken <= 3, "too many permits")
  end
  local function use_mutex()
    if mutex:lock(options()) then
      holders = holders + 1
      check(holders == 1, "two have the mutex")
      pcall(pause)
      holders = holders - 1
      mutex:unlock()
    end
  end
  local function in_mutex()
    mutex:with(function()
      holders = holders + 1
      check(holders == 1, "two have the mutex")
      local ok = pcall(pause)
      holders = holders - 1
      if not ok then error("cancelled", 0) end
    end)
  end
  local function read()
    if rwlock:lock_read(options()) then
      evlua.atomic(add, 1, 0, 0)  -- since a slice may end between two instructions
      pcall(pause)
      evlua.atomic(add, -1, 0, 0)
      rwlock:unlock_read()
    end
  end
  local function write()
    if rwlock:lock_write(options()) then
      evlua.atomic(add, 0, 1, 0)
      pcall(pause)
      evlua.atomic(add, 0, -1, 0)
      rwlock:unlock_write()
    end
  end
  local function take()
    local n = random(3)
    if semaphore:acquire(n, options()) then
      evlua.atomic(add, 0, 0, n)
      pcall(pause)
      evlua.atomic(add, 0, 0, -n)
      semaphore:release(n)
    end
  end
  local uses = {use_mutex, in_mutex, read, write, take}
  local tasks = {}
  for i = 1, TASKS do
    tasks[i] = evlua.spawn(function()
      for _ = 1, VALUES do uses[random(#uses)]() end
    end)
  end
  harass(tasks)
  for _, task in ipairs(tasks) do
    local ok, message = pcall(task.join, task)
    check(ok or tostring(message) == "cancelled", tostring(message))
  end
  check(not mutex:locked() and mutex:try_lock(), "the mutex is left locked")
  check(rwlock:try_lock_write(), "the rwlock is left locked")
  check(semaphore:available() == 3, "permits are lost")
end

for _ = 1, ROUNDS do
  channels()
  locks()
end
print "ok"
