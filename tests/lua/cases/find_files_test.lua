-- Goal: what `evlua test` and `evlua --check` find in folders, whatever the file system tells of their entries.
local fs = require "evlua.fs"
local find = require "evlua.find_files"

local function below(folder)
  local found = assert(find.below(folder, "%.lua$"))
  for i, path in ipairs(found) do found[i] = path:sub(#folder + 2) end
  return found
end

local function with_folder(f)
  local folder = assert(fs.temp_dir())
  for _, path in ipairs{"b", "b/c", ".hidden"} do assert(fs.mkdir(folder .. "/" .. path)) end
  for _, path in ipairs{"a.lua", "b/x.lua", "b/c/y.lua", "b/c/text", ".hidden/z.lua"} do
    assert(fs.write(folder .. "/" .. path, ""))
  end
  assert(fs.symlink(folder .. "/b", folder .. "/link"))
  local ok, message = pcall(f, folder)
  assert(fs.remove_all(folder))
  assert(ok, message)
end

it("finds files in folders, in order, and follows no links", function()
  with_folder(function(folder) assert.same({"a.lua", "b/c/y.lua", "b/x.lua"}, below(folder)) end)
end)

it("asks where a file system does not tell what is a folder", function()
  local dir = fs.dir
  spy_on(fs, "dir", function(path)
    local iterate, directory = dir(path)
    return iterate and function(of)
      local entry = iterate(of)
      return entry and {name = entry.name, type = "unknown"}
    end, directory
  end)
  with_folder(function(folder) assert.same({"a.lua", "b/c/y.lua", "b/x.lua"}, below(folder)) end)
end)
