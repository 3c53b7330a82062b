-- Random values cross to another Lua state and back unchanged: shape, identity, cycles, number types.
-- A script: whoever looks for a value that does not cross runs it again and again with EVLUA_SEED.
local thread = require "evlua.thread"
local seed = tonumber(os.getenv("EVLUA_SEED")) or os.time()
math.randomseed(seed)
local random = math.random

local function scalar()
  local kind = random(7)
  if kind == 1 then return random(2) == 1 end
  if kind == 2 then return random(-1000, 1000) end
  if kind == 3 then return random() * 1e6 end
  if kind == 4 then return ("x"):rep(random(0, 50)) .. "\0" end
  if kind == 5 then return ("long"):rep(random(250, 3000)) end
  if kind == 6 then return math.maxinteger - random(10) end
  return "key" .. random(20)
end

-- Values that were made may be used again, tables that are not complete as well: then there is a cycle.
local function value(depth, made)
  local kind = random(10)
  if kind <= 2 and #made > 0 then return made[random(#made)] end
  if kind <= 6 or depth == 0 then return scalar() end
  if kind == 7 then
    local up = value(depth - 1, made)
    local function f(x) if x then up = x end return up end
    made[#made + 1] = f
    return f
  end
  local t = {}
  made[#made + 1] = t
  for i = 1, random(0, 6) do t[i] = value(depth - 1, made) end
  for _ = 1, random(0, 4) do
    local key = random(5) == 1 and value(depth - 1, made) or scalar()
    if key == key then t[key] = value(depth - 1, made) end
  end
  return t
end

-- Keys that are tables or functions have no order to compare them by: they are counted.
local function same(a, b, seen)
  if type(a) ~= type(b) or math.type(a) ~= math.type(b) then return false end
  if type(a) ~= "table" and type(a) ~= "function" then return a == b end
  if seen[a] then return seen[a] == b end
  seen[a] = b
  if type(a) == "function" then return same(a(), b(), seen) end
  local odd = 0
  for key, item in pairs(a) do
    if type(key) == "table" or type(key) == "function" then
      odd = odd + 1
    elseif not same(item, b[key], seen) then
      return false
    end
  end
  for key in pairs(b) do
    if type(key) == "table" or type(key) == "function" then
      odd = odd - 1
    elseif a[key] == nil then
      return false
    end
  end
  return odd == 0
end

local pool = thread.pool(2)
local channel = thread.channel(1)
for _ = 1, 300 do
  local made = {}
  local sent = value(5, made)
  local got = pool:run(function(...) return ... end, sent, sent)
  assert(same(sent, got, {}), "seed " .. seed)
  if sent ~= nil and sent ~= false then
    assert(channel:send(sent))
    assert(same(sent, channel:receive(), {}), "seed " .. seed)
  end
end
print "ok"
