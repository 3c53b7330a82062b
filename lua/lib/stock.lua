-- Replacements for what of stock Lua reads files or calls back from C: they may wait. Behaviour and messages are stock.
local io_open, io_stdin = io.open, io.stdin
local compile = require("evlua.task").compile
local load, type, select, setmetatable = load, type, select, setmetatable
local error, tostring = error, tostring
local package, searchpath = package, package.searchpath
local yield, sleep = require("evlua.task").yield, require("evlua.task").sleep
local trail, traceback, xpcall = require("evlua.task").trail, debug.traceback, xpcall
local make_require = require("evlua.task").make_require
local running, status = coroutine.running, coroutine.status

-- Skips a byte order mark and a first line that starts with '#', as luaL_loadfilex does.
local function read_source(path)
  local file, message = io_stdin, nil
  if path then
    file, message = io_open(path)
    if not file then return nil, "cannot open " .. message end
  end
  local text
  text, message = file:read("a")
  if path then file:close() end
  if not text then return nil, "cannot read " .. (path or "stdin") .. ": " .. message end
  if text:sub(1, 3) == "\xEF\xBB\xBF" then text = text:sub(4) end
  if text:sub(1, 1) == "#" then text = text:gsub("^[^\n]*", "", 1) end
  return text
end

local function load_file(path, mode, environment, has_environment)
  local text, message = read_source(path)
  if not text then return nil, message end
  local name = path and "@" .. path or "=stdin"
  if mode ~= nil then
    if has_environment then return load(text, name, mode, environment) end
    return load(text, name, mode)
  end
  if has_environment then return compile(text, name, environment) end
  return compile(text, name)
end

local function check_path(path, name)
  if path == nil or type(path) == "string" then return path end
  if type(path) == "number" then return tostring(path) end
  error(("bad argument #1 to '%s' (string expected, got %s)"):format(name, type(path)), 3)
end

function loadfile(path, ...)
  path = check_path(path, "loadfile")
  return load_file(path, (...), select(2, ...), select("#", ...) >= 2)
end

function dofile(path)
  path = check_path(path, "dofile")
  local chunk, message = load_file(path)
  if not chunk then error(message, 0) end
  return chunk()
end

-- Searcher for Lua files. The others (preload, C libraries, all-in-one) are stock.
package.searchers[2] = function(name)
  local path, message = searchpath(name, package.path)
  if not path then return message end
  local chunk, failure = load_file(path)
  if not chunk then
    error(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, failure), 0)
  end
  return chunk, path
end

local function keep_traceback(value)
  trail(value, traceback(tostring(value), 2))
  return value
end

-- The loader and what it wants to know, or nil and where it was looked for.
local function search(searchers, name)
  local messages = ""
  local i = 1
  while searchers[i] ~= nil do
    local loader, extra = searchers[i](name)
    if type(loader) == "function" then return loader, extra end
    if type(loader) == "string" then messages = messages .. loader end
    i = i + 1
  end
  return nil, messages
end

-- Modules being loaded by some task: others that require them wait, as they would for a lock.
local loading = {}

-- The coroutine that loads the module. One that a limit has ended has left its mark.
local function loader_of(name)
  local by = loading[name]
  if by and status(by) ~= "dead" then return by end
end

local function begin(name)
  local loaded = package.loaded
  if loaded[name] then return "done", loaded[name] end
  local self = running()
  -- The same task asking again is a cycle: stock Lua loads the module anew, without end; a clear error is kinder.
  local by = loader_of(name)
  while by and by ~= self and not loaded[name] do
    if not sleep(0.001) then break end
    by = loader_of(name)
  end
  if loaded[name] then return "done", loaded[name] end
  if by == self then return "fail", ("loop or previous error loading module '%s'"):format(name) end
  local searchers = package.searchers
  if type(searchers) ~= "table" then return "fail", "'package.searchers' must be a table" end
  loading[name] = self  -- the searchers wait, too
  local found, loader, extra = xpcall(search, keep_traceback, searchers, name)
  if found and loader then return "load", loader, extra end
  loading[name] = nil
  if not found then return "raise", loader end
  return "fail", ("module '%s' not found:%s"):format(name, extra)
end

require = make_require(begin, loading)
