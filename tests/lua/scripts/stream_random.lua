-- evlua.net: random reads with timeouts and cancellations against a model; not a byte may be lost or come twice.
-- A script: it takes its first seed as an argument.
local evlua, net = require "evlua", require "evlua.net"

local ROUNDS = 30
local first_seed = tonumber((...)) or 20261124
local random = math.random

local pair = dofile((arg[0]:gsub("[^/]*$", "../support.lua"))).pair

-- Lines of up to 200 bytes, now and then 30,000, some without an end.
local function make_data()
  local parts = {}
  for i = 1, random(1, 60) do
    local line = ("abcdefghij"):rep(random(0, random() < 0.1 and 3000 or 20)):sub(random(1, 10))
    parts[i] = line .. (random() < 0.7 and "\n" or "")
  end
  return table.concat(parts)
end

local function write_in_pieces(stream, data)
  local at = 1
  while at <= #data do
    local size = random() < 0.5 and random(1, 10) or random(1, 8000)
    assert(stream:write(data:sub(at, at + size - 1)))
    at = at + size
    if random() < 0.3 then evlua.sleep(random() * 0.002) end
  end
  if random() < 0.5 then assert(stream:shutdown("write")) else stream:close() end
end

-- Each kind of read: makes one, and tells how the model answers: the bytes expected at the head of `rest`, and how many
-- of them are used up. nil: it cannot be answered.
local LINE_LIMIT, UNTIL_LIMIT = 5000, 6000
local kinds = {}
function kinds.some()
  local count = random(1, 3000)
  return function(stream, timeout) return stream:read(count, {timeout = timeout}) end,
    function(rest, got)
      assert(#got >= 1 and #got <= count)
      return rest:sub(1, #got), #got
    end
end
function kinds.line()
  return function(stream, timeout) return stream:read("l", {timeout = timeout, limit = LINE_LIMIT}) end,
    function(rest)
      local line = rest:match("^[^\n]*")
      if rest ~= "" then return line, #line + 1 end
    end, function(rest) return #rest:match("^[^\n]*\n?") > LINE_LIMIT end
end
function kinds.whole_line()
  return function(stream, timeout) return stream:read("L", {timeout = timeout, limit = LINE_LIMIT}) end,
    function(rest)
      local line = rest:match("^[^\n]*\n?")
      if rest ~= "" then return line, #line end
    end, function(rest) return #rest:match("^[^\n]*\n?") > LINE_LIMIT end
end
function kinds.exactly()
  local count = random(1, 4000)
  return function(stream, timeout) return stream:read_exactly(count, {timeout = timeout}) end,
    function(rest) if #rest >= count then return rest:sub(1, count), count end end
end
function kinds.delimited()
  local delimiter = ({"j\n", "ab", "zz", "ja", "\n\n"})[random(1, 5)]
  local function last_of(rest) return select(2, rest:find(delimiter, 1, true)) end
  return function(stream, timeout) return stream:read_until(delimiter, UNTIL_LIMIT, {timeout = timeout}) end,
    function(rest)
      local last = last_of(rest)
      if last then return rest:sub(1, last), last end
    end, function(rest) return (last_of(rest) or UNTIL_LIMIT + 1) > UNTIL_LIMIT end
end
function kinds.all()
  local limit = random() < 0.5 and 100 or nil
  return function(stream, timeout) return stream:read("a", {timeout = timeout, limit = limit}) end,
    function(rest) return rest, #rest end,
    function(rest) return limit ~= nil and #rest > limit end
end
local names = {"some", "line", "whole_line", "exactly", "delimited", "all"}

local function in_cancelled_task(read, stream, timeout)
  local task = evlua.spawn(read, stream, timeout)
  if random() < 0.5 then evlua.sleep(random() * 0.001) end
  task:cancel()
  return task:join()
end

local function run(address)
  local writing, reading = pair(address)
  local data, at = make_data(), 1
  local writer = evlua.spawn(write_in_pieces, writing, data)
  local ended = false
  while not ended do
    local name = names[random(#names)]
    local read, expect, beyond_limit = kinds[name]()
    local timeout = random() < 0.5 and random() * 0.002 or nil
    local got, message, code
    if random() < 0.2 then got, message, code = in_cancelled_task(read, reading, timeout)
    else got, message, code = read(reading, timeout) end
    local rest = data:sub(at)
    if got then
      local expected, used = expect(rest, got)
      assert(got == expected, name)
      at = at + used
      ended = name == "all"
    elseif code == "EOF" then
      assert(name == "some" and rest == "" or not expect(rest), name)
      ended = rest == ""
    elseif code == "ELIMIT" then
      assert(beyond_limit(rest), name)
    else
      assert(code == "ETIMEDOUT" or code == "ECANCELED", message)
    end
  end
  writer:join()
  writing:close()
  reading:close()
end

for seed = first_seed, first_seed + ROUNDS - 1 do
  math.randomseed(seed)
  local unix = ("unix:@evlua-stream-random-%d-%s"):format(seed, {})
  local ok, trouble = pcall(run, seed % 2 == 0 and "127.0.0.1:0" or unix)
  if not ok then error(("seed %d: %s"):format(seed, trouble)) end
end
