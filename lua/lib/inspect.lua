-- Values as people read them: for evlua test and for the prompt. Bounded in depth, in length, and where tables hold
-- themselves. Looks into tables without their metamethods; only __tostring and __name are asked.
local inspect = {}

local getmetatable = debug.getmetatable
local LINE = 72     -- what stands in one line
local DEPTH = 8     -- of tables within tables
local ITEMS = 100   -- of one table
local TOTAL = 1000  -- of all of them
local TEXT = 1000   -- bytes of a string

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while]]):gmatch("%a+") do
  keywords[word] = true
end

local escapes = {["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\"}
local function escape(byte) return escapes[byte] or ("\\x%02x"):format(byte:byte()) end

-- As Lua would read it, and on one line.
function inspect.quote(text)
  local rest = ""
  if #text > TEXT then text, rest = text:sub(1, TEXT), ("... (%d bytes)"):format(#text) end
  local strange = utf8.len(text) and '[%c"\\\x7f]' or '[%c"\\\x7f-\xff]'
  return '"' .. text:gsub(strange, escape) .. '"' .. rest
end

local function plain(value)
  local kind = type(value)
  if kind == "string" then return inspect.quote(value) end
  if kind == "number" or kind == "boolean" or kind == "nil" then return tostring(value) end
  local ok, text = pcall(tostring, value)
  return ok and text or ("%s (__tostring fails)"):format(kind)
end

local function key_text(key)
  if type(key) == "string" and key:match("^[%a_][%w_]*$") and not keywords[key] then return key end
  return "[" .. plain(key) .. "]"
end
inspect.key = key_text

local rank = {number = 1, string = 2}
local function in_order(a, b)
  local kind_a, kind_b = rank[type(a)] or 3, rank[type(b)] or 3
  if kind_a ~= kind_b then return kind_a < kind_b end
  if kind_a < 3 then return a < b end
  return plain(a) < plain(b)
end

-- Keys but those of the list at its beginning, and the length of that.
local function keys_of(t)
  local length, keys = 0, {}
  while length < ITEMS and rawget(t, length + 1) ~= nil do length = length + 1 end
  for key in next, t do
    local listed = math.type(key) == "integer" and key >= 1 and key <= length
    if not listed then
      keys[#keys + 1] = key
      if #keys == 10 * ITEMS then break end  -- enough to be sorted
    end
  end
  table.sort(keys, in_order)
  return keys, length
end

inspect.in_order = in_order

local show

local function items_of(t, indent, state)
  local items = {}
  local keys, length = keys_of(t)
  local function add(key, value)
    if #items == ITEMS or state.left == 0 then
      items[#items + 1] = "..."
      return false
    end
    state.left = state.left - 1
    items[#items + 1] = (key and key_text(key) .. " = " or "") .. show(value, indent .. "  ", state)
    return true
  end
  for i = 1, length do
    if not add(nil, rawget(t, i)) then return items end
  end
  for _, key in ipairs(keys) do
    if not add(key, rawget(t, key)) then return items end
  end
  return items
end

function show(value, indent, state)
  if type(value) ~= "table" then return plain(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") then return plain(value) end
  local name = type(meta) == "table" and rawget(meta, "__name")
  name = type(name) == "string" and name .. " " or ""
  if state.around[value] then return "<cycle>" end
  if next(value) == nil then return name .. "{}" end
  if state.depth == DEPTH then return name .. "{...}" end
  state.around[value], state.depth = true, state.depth + 1
  local items = items_of(value, indent, state)
  state.around[value], state.depth = nil, state.depth - 1
  local line = name .. "{" .. table.concat(items, ", ") .. "}"
  if #line + #indent <= LINE and not line:find("\n", 1, true) then return line end
  return name .. "{\n" .. indent .. "  " .. table.concat(items, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
end

function inspect.value(value, indent)
  return show(value, indent or "", {around = {}, depth = 0, left = TOTAL})
end

return inspect
