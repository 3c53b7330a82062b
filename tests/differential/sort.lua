-- table.sort: the same comparisons in the same order, the same results, the same errors.
local state = 42
local function random(k) state = (state * 1103515245 + 12345) % 2147483648 return (state // 65536) % k + 1 end
local sum = 0
local function note(x) sum = (sum * 31 + x) % 1000000007 end
for round = 1, 3000 do
  local n = random(60) - 1
  if round % 500 == 0 then n = 3000 end
  local kind = random(7)
  local t = {}
  for i = 1, n do
    local v = random(kind == 1 and 5 or 1000)
    t[i] = kind == 3 and tostring(v) or kind == 4 and {v, i} or v
  end
  local f
  if kind == 4 then f = function(a, b) note(a[2]) note(b[2]) return a[1] < b[1] end
  elseif kind == 5 then f = function(a, b) note(a) note(b) return a > b end
  elseif kind == 6 then f = function(a, b) return true end
  elseif kind == 7 then f = function(a, b) if random(200) == 1 then error("oops") end return a <= b end end
  local ok, e = pcall(table.sort, t, f)
  note(ok and 1 or 0)
  if not ok then for c in e:gmatch(".") do note(c:byte()) end end
  for i = 1, n do local v = kind == 4 and t[i][2] or tonumber(t[i]) note(v) end
end
print(sum)
print(pcall(table.sort, {1, "x", 3}))
print(pcall(table.sort, {{}, {}}))
print(pcall(table.sort, {1, 2}, 3))
print(pcall(table.sort))
print(pcall(table.sort, 5))
print(pcall(table.sort, {3, 1, nil, 2}))
local mt = {__lt = function(a, b) return a.v < b.v end}
local objs = {}
for i = 1, 50 do objs[i] = setmetatable({v = (i * 37) % 50}, mt) end
table.sort(objs)
local out = {} for i = 1, 50 do out[i] = objs[i].v end print(table.concat(out, " "))
print(select("#", table.sort({2, 1})))
-- worst cases: sorted, reversed, equal, organ pipe
local function pipe(i) return i < 5000 and i or 10000 - i end
for _, make in ipairs{function(i) return i end, function(i) return -i end, function() return 1 end, pipe} do
  local t = {} for i = 1, 10000 do t[i] = make(i) end
  local c = 0
  table.sort(t, function(a, b) c = c + 1 return a < b end)
  for i = 2, #t do assert(t[i-1] <= t[i]) end
end
