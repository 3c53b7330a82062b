-- evlua --check: what can be told of a file without running it. Returns a function of {files, globals} -> exit code.
local list_globals = require("evlua.task").list_globals
package.loaded["evlua.task"] = nil
local find = require "evlua.find_files"

local function read_source(path)
  local file, message = io.stdin, nil
  if path ~= "-" then
    file, message = io.open(path)
    if not file then return nil, message end
  end
  local text
  text, message = file:read("a")
  if path ~= "-" then file:close() end
  if not text then return nil, path .. ": " .. message end
  text = text:gsub("^\xEF\xBB\xBF", "")
  return (text:gsub("^#[^\n]*", "", 1))
end

local test_names = require("evlua.test.run").names

local function allow(allowed, names)
  for name in names:gmatch("[%a_][%w_]*") do allowed[name] = true end
end

-- What "-- globals: name, name" says in the file.
local function allowed_in(path, text, always)
  local allowed = setmetatable({}, {__index = always})
  if path:find("_test%.lua$") then
    for _, name in ipairs(test_names) do allowed[name] = true end
  end
  for names in text:gmatch("%-%-[%[=]*[ \t]*globals:([%w_, \t]*)") do allow(allowed, names) end
  return allowed
end

-- Each once in its line, from the first line to the last.
local function findings_of(chunk, allowed)
  local findings, seen = {}, {}
  for _, use in ipairs(list_globals(chunk)) do
    local key = use.line .. (use.writes and "=" or ":") .. use.name
    if not allowed[use.name] and not seen[key] then
      seen[key] = true
      use.order = #findings
      findings[#findings + 1] = use
    end
  end
  table.sort(findings, function(a, b)
    if a.line ~= b.line then return a.line < b.line end
    return a.order < b.order
  end)
  return findings
end

local function describe(use)
  if use.writes then return ("assignment to undefined global '%s'"):format(use.name) end
  return ("undefined global '%s'"):format(use.name)
end

-- The number of things that are wrong.
local function check_file(path, always)
  local shown = path == "-" and "stdin" or path
  local text, message = read_source(path)
  if not text then
    io.stdout:write(message, "\n")
    return 1
  end
  -- A short name for the chunk: Lua would cut a long one.
  local chunk
  chunk, message = load(text, "=f", "t")
  if not chunk then
    local line, rest = message:match("^f:(%d+): (.*)$")
    io.stdout:write(shown, ":", line or "1", ": ", rest or message, "\n")
    return 1
  end
  local findings = findings_of(chunk, allowed_in(path, text, always))
  for _, use in ipairs(findings) do io.stdout:write(shown, ":", use.line, ": ", describe(use), "\n") end
  return #findings
end

-- The number of things that are wrong in the file, or in the files of the folder.
local function check_path(path, always)
  if path == "-" or not find.is_folder(path) then return check_file(path, always) end
  local files, message = find.below(path, "%.lua$")
  if files and #files == 0 then message = path .. ": no file here, nor below, ends in .lua" end
  if message then
    io.stdout:write(message, "\n")
    return 1
  end
  local wrong = 0
  for _, file in ipairs(files) do wrong = wrong + check_file(file, always) end
  return wrong
end

return function(options)
  local always = setmetatable({}, {__index = _G})
  for _, names in ipairs(options.globals or {}) do allow(always, names) end
  local wrong = 0
  for _, path in ipairs(options.files) do wrong = wrong + check_path(path, always) end
  return wrong == 0 and 0 or 1
end
