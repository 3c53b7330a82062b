-- The files that a command line means: those that it names, and what lies in the folders that it names.
local fs = require "evlua.fs"

local find = {}

-- Some file systems do not say what an entry is.
local function is_folder_below(path, entry)
  if entry.type ~= "unknown" then return entry.type == "directory" end
  local info = fs.lstat(path)
  return info and info.type == "directory"
end

local function add_folder(folder, pattern, files)
  local iterate, directory = fs.dir(folder)
  if not iterate then return nil, directory end
  local entries = {}
  for entry in iterate, directory do entries[#entries + 1] = entry end
  table.sort(entries, function(a, b) return a.name < b.name end)
  for _, entry in ipairs(entries) do
    local path = folder == "." and entry.name or (folder:gsub("/+$", "") .. "/" .. entry.name)
    if is_folder_below(path, entry) then
      if not entry.name:find("^%.") then
        local ok, message = add_folder(path, pattern, files)
        if not ok then return nil, message end
      end
    elseif entry.name:find(pattern) then
      files[#files + 1] = path
    end
  end
  return true
end

function find.is_folder(path)
  local info = fs.stat(path)
  return info and info.type == "directory"
end

-- The files below a folder whose names match, in order of their names; hidden folders are left out. Or nil, a message.
function find.below(folder, pattern)
  local files = {}
  local ok, message = add_folder(folder, pattern, files)
  if not ok then return nil, message end
  return files
end

return find
