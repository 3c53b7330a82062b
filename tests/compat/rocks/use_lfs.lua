-- lua-filesystem: folders, attributes, links, locks.
local lfs = require "lfs"
local folder = os.tmpname() .. ".d"
assert(lfs.mkdir(folder) and lfs.mkdir(folder .. "/sub"))
local path = folder .. "/file"
local file = assert(io.open(path, "w"))  -- ours
file:write("12345")
file:close()
local names = {}
for name in lfs.dir(folder) do names[#names + 1] = name end
table.sort(names)
assert(table.concat(names, " ") == ". .. file sub", table.concat(names, " "))
local about = lfs.attributes(path)
assert(about.mode == "file" and about.size == 5 and lfs.attributes(folder, "mode") == "directory")
assert(lfs.touch(path, 1000000000, 1000000001) and lfs.attributes(path, "modification") == 1000000001)
assert(lfs.link(path, folder .. "/link", true) and lfs.symlinkattributes(folder .. "/link", "mode") == "link")
assert(lfs.symlinkattributes(folder .. "/link", "target") == path)
local none, message, code = lfs.attributes(folder .. "/none")
assert(none == nil and message:find("No such file") and code == 2)
local lock = assert(lfs.lock_dir(folder))
assert(lfs.lock_dir(folder) == nil)
lock:free()
local iterator, state = lfs.dir(folder)
assert(iterator(state))
state:close()
assert(lfs.currentdir():sub(1, 1) == "/")
os.remove(folder .. "/link")
os.remove(path)
assert(lfs.rmdir(folder .. "/sub") and lfs.rmdir(folder))
return "lfs"
