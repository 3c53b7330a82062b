-- The module `evlua.fs`: what evlua.fs.native has, and what is built of it: trees and patterns.
local bad_argument = require "evlua.bad_argument"
local bad_type = require "evlua.bad_type"
local fs = require "evlua.fs.native"
package.loaded["evlua.fs.native"] = nil  -- errors shall name functions as users know them
local copy_file = fs.copy_file
fs.copy_file = nil

local function check_string(position, ...)
  local value = select(position, ...)
  if type(value) ~= "string" then bad_type(position, "string", 2, ...) end
  if value:find("\0", 1, true) then
    bad_argument(position, "path contains a NUL byte", 2)
  end
end

-- Checks that every option is known and of its type, and gives the table, or an empty one.
local function check_options(options, position, known)
  if options == nil then return {} end
  if type(options) ~= "table" then
    bad_argument(position, ("table expected, got %s"):format(type(options)), 2)
  end
  for key, value in pairs(options) do
    if not known[key] then
      bad_argument(position, ("unknown option '%s'"):format(tostring(key)), 2)
    elseif type(value) ~= known[key] then
      bad_argument(position, ("option '%s': %s expected, got %s"):format(key, known[key], type(value)), 2)
    end
  end
  return options
end

local function join(folder, name)
  return folder:sub(-1) == "/" and folder .. name or folder .. "/" .. name
end

-- Where the file system does not say what an entry is.
local function type_of(path, entry)
  if entry.type ~= "unknown" then return entry.type end
  local info = fs.lstat(path)
  return info and info.type or "unknown"
end

-- walk ----------------------------------------------------------------------------------------------------------------

-- A folder that cannot be read. One that has gone meanwhile is none.
local function failed(walk, message, code)
  if code == "ENOENT" then return end
  if not walk.on_error then error(message, 0) end
  walk.on_error(message, code)
end

local OPEN_MAX = 16  -- folders, of the innermost ones

-- Reads the rest of the outermost folder that is open, whose descriptor others may have then.
local function read_out(walk)
  walk.closed = walk.closed + 1
  local folder = walk.stack[walk.closed]
  local rest, count, at = {}, 0, 0
  local entry, message, code = folder.iterate(folder.state)
  while entry do
    count = count + 1
    rest[count] = entry
    entry, message, code = folder.iterate(folder.state)
  end
  function folder.iterate()
    at = at + 1
    if at > count then return nil, message, code end
    entry, rest[at] = rest[at], nil
    return entry
  end
end

-- Steps through a tree. `stack` has the open folders, the innermost last. A folder is opened in the step behind the one
-- that gave it out, so that it can be pruned between.
local function step(walk)
  local stack, entered = walk.stack, walk.entered
  walk.entered = nil
  if entered and not entered.prune and entered.depth < walk.depth then
    local iterate, state, code = fs.dir(entered.path)
    if iterate then
      stack[#stack + 1] = {iterate = iterate, state = state, path = entered.path, depth = entered.depth + 1}
      if #stack - walk.closed > OPEN_MAX then read_out(walk) end
    else
      failed(walk, state, code)
    end
  end
  while #stack > 0 do
    local top = stack[#stack]
    local entry, message, code = top.iterate(top.state)
    if entry then
      entry.path = join(top.path, entry.name)
      entry.type = type_of(entry.path, entry)
      entry.depth = top.depth
      if entry.type == "directory" then walk.entered = entry end
      return entry
    end
    stack[#stack] = nil
    walk.closed = math.min(walk.closed, #stack)
    if message then failed(walk, message, code) end
  end
end

function fs.walk(...)
  check_string(1, ...)
  local path, options = ...
  options = check_options(options, 2, {depth = "number", on_error = "function"})
  local depth = options.depth or math.huge
  if not (depth >= 1) then bad_argument(2, "option 'depth': at least 1 expected") end
  local iterate, state, code = fs.dir(path)
  if not iterate then return nil, state, code end
  local first = {iterate = iterate, state = state, path = path, depth = 1}
  return step, {stack = {first}, closed = 0, depth = depth, on_error = options.on_error}
end

-- glob ----------------------------------------------------------------------------------------------------------------

-- A byte as a Lua pattern that matches it.
local function literal(c) return (c:find("^[%w_]") or c:byte() >= 128) and c or "%" .. c end

-- A part of a pattern between two slashes, or nil if it is a plain name: what stands between its stars, as Lua patterns
-- without any quantifier that could be tried in more than one way.
local function translate(part)
  if not part:find("[*?%[\\]") then return nil end
  local pieces, out, i = {}, {}, 1
  while i <= #part do
    local c = part:sub(i, i)
    local set, behind = part:match("^%[([!^]?%]?[^%]]*)%]()", i)
    if c == "*" then pieces[#pieces + 1], out = table.concat(out), {}
    elseif c == "?" then out[#out + 1] = "[^\128-\191][\128-\191]*"
    elseif c == "\\" and i < #part then
      i = i + 1
      out[#out + 1] = literal(part:sub(i, i))
    elseif c == "[" and set then
      local negated, members = set:match("^([!^]?)(.*)$")
      members = members:gsub("[%%%]%[^]", "%%%0")
      out[#out + 1] = "[" .. (negated ~= "" and "^" or "") .. members .. "]"
      i = behind - 1
    else out[#out + 1] = literal(c)
    end
    i = i + 1
  end
  pieces[#pieces + 1] = table.concat(out) .. "$"
  pieces[1] = "^" .. pieces[1]
  return pieces
end

-- Each piece where it comes first: a star takes as little as it can, and never has to take that back.
local function matches(name, pieces)
  local at = 1
  for _, piece in ipairs(pieces) do
    local _, last = name:find(piece, at)
    if not last then return false end
    at = last + 1
  end
  return true
end

local function unescape(part) return (part:gsub("\\(.)", "%1")) end

-- Names of a folder; none where it cannot be read or is no folder.
local function names_in(folder)
  local names = fs.list(folder == "" and "." or folder)
  return names or {}
end

local function is_folder(path, follow)
  local info = (follow and fs.stat or fs.lstat)(path)
  return info ~= nil and info.type == "directory"
end

local expand

-- "**": this folder and all below it. Links are not followed: they may lead back.
local function expand_all(found, folder, parts, at, hidden)
  expand(found, folder, parts, at + 1, hidden)
  for _, name in ipairs(names_in(folder)) do
    local path = folder .. name
    if (hidden or name:sub(1, 1) ~= ".") and is_folder(path) then
      if at == #parts then found[#found + 1] = path end
      expand_all(found, path .. "/", parts, at, hidden)
    elseif at == #parts and (hidden or name:sub(1, 1) ~= ".") then
      found[#found + 1] = path
    end
  end
end

-- `folder` is "" or ends with a slash.
function expand(found, folder, parts, at, hidden)
  local part = parts[at]
  if part == nil then return end
  if part == "**" then return expand_all(found, folder, parts, at, hidden) end
  local pattern, is_last = translate(part), at == #parts
  local names = pattern and names_in(folder) or {unescape(part)}
  for _, name in ipairs(names) do
    local shown = not pattern or name:sub(1, 1) ~= "." or part:sub(1, 1) == "." or hidden
    if shown and (not pattern or matches(name, pattern)) then
      local path = folder .. name
      if not is_last then
        if is_folder(path, true) then expand(found, path .. "/", parts, at + 1, hidden) end
      elseif pattern or fs.lstat(path) then
        found[#found + 1] = path
      end
    end
  end
end

function fs.glob(...)
  check_string(1, ...)
  local pattern, options = ...
  options = check_options(options, 2, {hidden = "boolean"})
  local parts, found = {}, {}
  if pattern:find("^/+$") then return {"/"} end
  for part in pattern:gmatch("[^/]+") do
    -- A row of them means the same as one, and would find everything again and again.
    if part ~= "**" or parts[#parts] ~= "**" then parts[#parts + 1] = part end
  end
  expand(found, pattern:sub(1, 1) == "/" and "/" or "", parts, 1, options.hidden)
  if pattern:sub(-1) == "/" then
    local folders = {}
    for _, path in ipairs(found) do
      if is_folder(path, true) then folders[#folders + 1] = path .. "/" end
    end
    found = folders
  end
  table.sort(found)
  return found
end

-- copy and move -------------------------------------------------------------------------------------------------------

-- Copies a folder with what is in it, a link or a file.
local function copy_tree(from, to, options)
  local info, message, code = fs.lstat(from)
  if not info then return nil, message, code end
  if info.type == "link" then
    local target, why, errno = fs.readlink(from)
    if not target then return nil, why, errno end
    return fs.symlink(target, to)
  elseif info.type ~= "directory" then
    if info.type ~= "file" then return nil, "copy " .. from .. ": not a file or directory", "EINVAL" end
    return copy_file(from, to, options.overwrite ~= false, options.preserve)
  end
  local done, why, errno = fs.mkdir(to, {permissions = 448})  -- 0700 until it is full
  if not done and not (errno == "EEXIST" and options.overwrite ~= false and is_folder(to, true)) then
    return nil, why, errno
  end
  local names
  names, why, errno = fs.list(from)
  if not names then return nil, why, errno end
  for _, name in ipairs(names) do
    done, why, errno = copy_tree(join(from, name), join(to, name), options)
    if not done then return nil, why, errno end
  end
  if options.preserve then
    fs.chown(to, info.uid, info.gid)  -- where that is allowed
    fs.utimes(to, info.accessed, info.modified)
  end
  return fs.chmod(to, info.permissions)
end

-- Whether `to` is `from` or inside of it: a copy would never end.
local function is_inside(from, to)
  local outer = fs.realpath(from)
  local inner = fs.realpath(to) or fs.realpath(to:match("^(.*[^/])/+[^/]+/*$") or to:match("^/") or ".")
  if not outer or not inner then return false end
  return inner == outer or inner:sub(1, #outer + 1) == outer .. "/"
end

function fs.copy(...)
  check_string(1, ...)
  check_string(2, ...)
  local from, to, options = ...
  options = check_options(options, 3, {overwrite = "boolean", preserve = "boolean", recursive = "boolean"})
  if not options.recursive then return copy_file(from, to, options.overwrite ~= false, options.preserve) end
  if is_folder(from) and is_inside(from, to) then
    return nil, "copy " .. from .. ": cannot be copied into itself", "EINVAL"
  end
  return copy_tree(from, to, options)
end

function fs.move(...)
  check_string(1, ...)
  check_string(2, ...)
  local from, to = ...
  local done, message, code = fs.rename(from, to)
  if done or code ~= "EXDEV" then return done, message, code end
  -- Beside its new place first, so that there is all of it or nothing.
  local place = to:match("^(.*[^/])/+[^/]+/*$") or (to:sub(1, 1) == "/" and "/" or ".")
  local beside
  beside, message, code = fs.temp_dir{dir = place, prefix = ".evlua-move-"}
  if not beside then return nil, message, code end
  local whole = beside .. "/moved"
  done, message, code = copy_tree(from, whole, {preserve = true})
  if done then done, message, code = fs.rename(whole, to) end
  fs.remove_all(beside)
  if not done then return nil, message, code end
  return fs.remove_all(from)
end

return fs
