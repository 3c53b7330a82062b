-- Completion of names at the prompt. It runs no code of anybody else: it looks into tables as they are.
local getmetatable, getupvalue = debug.getmetatable, debug.getupvalue

local SHOWN = 100  -- choices
local WIDTH = 80
local DEPTH = 10   -- of __index

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while]]):gmatch("%a+") do
  keywords[#keywords + 1] = word
end

-- Tables in which fields of the value are found, the nearest first. A function that is __index may keep them as
-- upvalues: those of the runtime do.
local function tables_of(value)
  local tables, depth = {}, 0
  while value ~= nil and depth < DEPTH do
    depth = depth + 1
    if type(value) == "table" then tables[#tables + 1] = value end
    local meta = getmetatable(value)
    local index = type(meta) == "table" and rawget(meta, "__index") or nil
    if type(index) == "function" then
      for i = 1, 4 do
        local name, kept = getupvalue(index, i)
        if not name then break end
        if type(kept) == "table" and kept ~= _G then tables[#tables + 1] = kept end
      end
      index = nil
    end
    value = index
  end
  return tables
end

local function field(value, key)
  for _, t in ipairs(tables_of(value)) do
    local found = rawget(t, key)
    if found ~= nil then return found end
  end
end

-- What the names before the last one lead to; nil if to nothing.
local function owner_of(path)
  local value = _G
  for name in path:gmatch("[%a_][%w_]*") do
    value = field(value, name)
    if value == nil then return nil end
  end
  return value
end

local function add_names(names, t, prefix, only_functions)
  for key, value in next, t do
    if type(key) == "string" and key:sub(1, #prefix) == prefix and key:find("^[%a_][%w_]*$") and
        (not only_functions or type(value) == "function") then
      names[key] = true
    end
  end
end

local function sorted(names)
  local list = {}
  for name in next, names do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function common_prefix(list)
  local first, last = list[1], list[#list]
  local length = 0
  while length < #first and first:byte(length + 1) == last:byte(length + 1) do length = length + 1 end
  return first:sub(1, length)
end

local function columns(list)
  local width = 0
  for i = 1, math.min(#list, SHOWN) do width = math.max(width, #list[i] + 2) end
  local per_line, lines = math.max(1, WIDTH // width), {}
  for i = 1, math.min(#list, SHOWN) do
    local text = list[i] .. (" "):rep(width - #list[i])
    if i % per_line == 0 or i == #list or i == SHOWN then text = list[i] .. "\n" end
    lines[i] = text
  end
  if #list > SHOWN then lines[#lines + 1] = ("... and %d more\n"):format(#list - SHOWN) end
  return table.concat(lines)
end

-- The text before the cursor -> what to insert there, and what to show when there are several names.
local function complete(before)
  local expression = before:match("[%a_][%w_%.:]*$") or ""
  -- All names but the last: of "a.b:c" it is "a.b".
  local path, separator, prefix = expression:match("^(.*)([%.:])([%w_]*)$")
  local names = {}
  if not path then
    prefix = expression
    -- Of a value that is no name there is nothing to tell; and nothing typed stands for an indentation.
    if before:find("[%.:]%s*$") or before:find('["\'%)%]][%.:][%w_]*$') then return "", "" end
    if prefix == "" and not before:find("%S") then return "    ", "" end
    add_names(names, _G, prefix)
    for _, word in ipairs(keywords) do
      if word:sub(1, #prefix) == prefix then names[word] = true end
    end
  else
    local owner = owner_of(path)
    if owner == nil then return "", "" end
    for _, t in ipairs(tables_of(owner)) do add_names(names, t, prefix, separator == ":") end
  end
  local list = sorted(names)
  if #list == 0 then return "", "" end
  local insert = common_prefix(list):sub(#prefix + 1)
  return insert, #list > 1 and columns(list) or ""
end

return {complete = complete}
