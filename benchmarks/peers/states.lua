-- What benchmarks/states.py asks for: a plain answer, one that computes for 200 ms, and one that uses a cache of some
-- 40 MiB, which each Lua state has for itself, and replaces a part of it.
local cache = {}
local function entry(i) return {id = i, name = "entry " .. i, tags = {i, i + 1}} end
local entries = 150000

return function(req, res)
  if req.path == "/burn" then
    local began = os.clock()
    repeat for _ = 1, 1000 do end until os.clock() - began > 0.2
    return res:text("burnt")
  elseif req.path == "/memory" then
    if not cache[1] then for i = 1, entries do cache[i] = entry(i) end end
    local at = math.random(entries - 200)
    for i = at, at + 200 do cache[i] = entry(i) end
  end
  res:text("Hello, World!")
end
