-- evlua.fs: trees, patterns, copies, temporary files, metadata and locks.
local evlua, fs, process = require "evlua", require "evlua.fs", require "evlua.process"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local fails, raises = support.fails, support.raises

local place = assert(fs.temp_dir{prefix = "evlua-test-"})

local function tree(name, files)
  local root = place .. "/" .. name
  for _, file in ipairs(files) do
    assert(fs.mkdir(root .. "/" .. (file:match("^(.*)/") or ""), {parents = true}))
    if file:sub(-1) ~= "/" then assert(fs.write(root .. "/" .. file, file)) end
  end
  return root
end

local function glob(root, pattern, options)
  local found = assert(fs.glob(root .. "/" .. pattern, options))
  for i, path in ipairs(found) do found[i] = path:sub(#root + 2) end
  return table.concat(found, " ")
end

it("walks trees", function()
  local root = tree("walk", {"a/b/c/deep", "a/one", "top", "empty/"})
  assert(fs.symlink("..", root .. "/a/up"))
  local function walked(options, visit)
    local seen = {}
    for entry in assert(fs.walk(root, options)) do
      assert(entry.path:sub(-#entry.name) == entry.name)
      assert(select(2, entry.path:sub(#root + 1):gsub("/", "")) == entry.depth)
      seen[#seen + 1] = entry.path:sub(#root + 2) .. ":" .. entry.type
      if visit then visit(entry) end
    end
    table.sort(seen)
    return table.concat(seen, " ")
  end
  assert(walked() == "a/b/c/deep:file a/b/c:directory a/b:directory a/one:file a/up:link a:directory empty:directory "
                     .. "top:file", walked())
  assert(walked{depth = 1} == "a:directory empty:directory top:file")
  assert(walked(nil, function(entry) entry.prune = entry.name == "b" end)
         == "a/b:directory a/one:file a/up:link a:directory empty:directory top:file")
  -- A folder that is removed meanwhile is no failure.
  walked(nil, function(entry) if entry.name == "c" then assert(fs.remove_all(entry.path)) end end)
  fails("ENOENT", "nowhere", fs.walk(place .. "/nowhere"))
  fails("ENOTDIR", "top", fs.walk(root .. "/top"))
  raises("unknown option 'deep'", fs.walk, root, {deep = 1})
  raises("option 'depth': number expected", fs.walk, root, {depth = "1"})
  raises("string expected", fs.walk)
end)

it("walks deep trees with few descriptors", function()
  local root, depth = place .. "/deep", 1000
  assert(fs.mkdir(root .. ("/d"):rep(depth), {parents = true}))
  for level = 0, depth do assert(fs.write(root .. ("/d"):rep(level) .. "/file", "")) end
  for level = 0, depth, 100 do assert(fs.mkdir(root .. ("/d"):rep(level) .. "/other/inner", {parents = true})) end
  local function open() return #assert(fs.list("/proc/self/fd")) end
  local before, most, seen = open(), 0, {}
  for entry in assert(fs.walk(root)) do
    assert(not seen[entry.path], entry.path)
    seen[entry.path] = entry.type
    seen[#seen + 1] = entry.depth
    if #seen % 50 == 0 then most = math.max(most, open()) end
  end
  assert(#seen == depth + depth + 1 + 2 * 11, #seen)
  assert(seen[root .. ("/d"):rep(depth) .. "/file"] == "file" and math.max(table.unpack(seen)) == depth + 2)
  assert(most <= before + 17, most - before)
  assert(fs.remove_all(root))
end)

it("finds paths by a pattern", function()
  local root = tree("glob", {"a/b/two.txt", "a/one.txt", "a/[x].txt", "a/b/c/x.lua", ".hidden/in", "a/.dot", "\u{e4}"})
  assert(fs.symlink("a", root .. "/link"))
  assert(glob(root, "*") == "a link \u{e4}")
  assert(glob(root, "?") == "a \u{e4}")
  assert(glob(root, "*", {hidden = true}) == ".hidden a link \u{e4}")
  assert(glob(root, ".*") == ".hidden")
  assert(glob(root, ".*/*") == ".hidden/in")
  assert(glob(root, "a/*.txt") == "a/[x].txt a/one.txt")
  assert(glob(root, "a/[no]*.txt") == "a/one.txt" and glob(root, "a/[a-m]*") == "a/b")
  assert(glob(root, "a/[!o]*.txt") == "a/[x].txt" and glob(root, "a/[^%o]*.txt") == "a/[x].txt")
  assert(glob(root, "a/\\[x\\].txt") == "a/[x].txt")
  assert(glob(root, "a/one.txt") == "a/one.txt" and glob(root, "a/none") == "" and glob(root, "no*/x") == "")
  assert(glob(root, "**/*.txt") == "a/[x].txt a/b/two.txt a/one.txt", glob(root, "**/*.txt"))
  assert(glob(root, "**/**/x.lua") == "a/b/c/x.lua" and glob(root, "a/**/c") == "a/b/c")
  assert(glob(root, "a/b/**") == "a/b/c a/b/c/x.lua a/b/two.txt")
  assert(glob(root, "link/o*") == "link/one.txt")
  assert(fs.glob("/")[1] == "/" and fs.glob("/etc/passw?")[1] == "/etc/passwd")
  raises("path contains a NUL byte", fs.glob, "a\0b")
end)

it("ends whatever the pattern is", function()
  local root = tree("globs", {("a"):rep(60), "b/c"})
  for stars = 1, 30 do assert(#fs.glob(root .. "/" .. ("*a"):rep(stars)) == 1) end
  assert(#fs.glob(root .. "/" .. ("*a"):rep(30) .. "*b") == 0 and #fs.glob(root .. "/" .. ("*"):rep(40) .. "a") == 1)
  assert(glob(root, "*/") == "b/" and glob(root, "b/c/") == "" and glob(root, "b/") == "b/")
  assert(not pcall(fs.walk, root, {depth = 0}) and not pcall(fs.walk, root, {depth = 0 / 0}))
end)

it("refuses permissions that are none", function()
  local root = tree("permissions", {})
  for _, bad in ipairs{-1, 4096, 1 << 20} do
    raises("option 'permissions'", fs.write, root .. "/x", "", {permissions = bad})
    raises("option 'permissions'", fs.replace, root .. "/x", "", {permissions = bad})
    raises("option 'permissions'", fs.open, root .. "/x", "w", {permissions = bad})
    raises("option 'permissions'", fs.mkdir, root .. "/x", {permissions = bad})
  end
  assert(not fs.exists(root .. "/x"))
end)

it("copies files and folders", function()
  local root = tree("copy", {"a/b/two", "a/one"})
  local big = ("0123456789abcdef"):rep(1 << 17)
  assert(fs.write(root .. "/big", big, {permissions = tonumber("640", 8)}))
  assert(fs.copy(root .. "/big", root .. "/copy"))
  assert(fs.read(root .. "/copy") == big and fs.stat(root .. "/copy").permissions == tonumber("640", 8))
  assert(fs.copy(root .. "/a/one", root .. "/copy") and fs.read(root .. "/copy") == "a/one")
  fails("EEXIST", "copy", fs.copy(root .. "/big", root .. "/copy", {overwrite = false}))
  assert(fs.read(root .. "/copy") == "a/one")
  fails("EINVAL", "copy", fs.copy(root .. "/big", root .. "/big"))
  assert(fs.read(root .. "/big") == big)
  fails("EISDIR", "is a directory", fs.copy(root .. "/a", root .. "/x"))
  fails("ENOENT", "nothing", fs.copy(root .. "/nothing", root .. "/x"))
  assert(not fs.exists(root .. "/x"))
  assert(fs.copy(root .. "/big", "/dev/null") and fs.stat("/dev/null").type == "char device")
  assert(fs.copy("/proc/self/status", root .. "/status") and #fs.read(root .. "/status") > 100)
  assert(fs.utimes(root .. "/big", 1000.5, 2000.25))
  assert(fs.copy(root .. "/big", root .. "/old", {preserve = true}) and fs.stat(root .. "/old").modified == 2000.25)
  -- Who gets a copy does not get programs that run as him.
  assert(fs.chmod(root .. "/big", tonumber("6750", 8)) and fs.copy(root .. "/big", root .. "/program"))
  assert(fs.stat(root .. "/program").permissions == tonumber("750", 8))
  assert(fs.copy(root .. "/big", root .. "/program", {preserve = true}))
  assert(fs.stat(root .. "/program").permissions == tonumber("6750", 8))
  -- Folders.
  assert(fs.symlink("nowhere", root .. "/a/dangling"))
  assert(fs.chmod(root .. "/a/b", tonumber("500", 8)))
  assert(fs.copy(root .. "/a", root .. "/z", {recursive = true}))
  assert(fs.read(root .. "/z/b/two") == "a/b/two" and fs.readlink(root .. "/z/dangling") == "nowhere")
  assert(fs.stat(root .. "/z/b").permissions == tonumber("500", 8))
  for _, inside in ipairs{"/a", "/a/b/new", "/a/../a/new"} do
    fails("EINVAL", "into itself", fs.copy(root .. "/a", root .. inside, {recursive = true}))
  end
  -- A copy that is cancelled leaves nothing.
  local long = "/proc/self/pagemap"  -- hundreds of GiB
  local task = evlua.spawn(function() return fs.copy(long, root .. "/endless") end)
  while not fs.exists(root .. "/endless") do evlua.sleep(0.001) end
  task:cancel()
  task:wait()
  assert(not fs.exists(root .. "/endless"))
  -- Nor does what is no file.
  assert(process.run{"mkfifo", root .. "/fifo"})
  for _, source in ipairs{"/dev/zero", "/dev/null", root .. "/fifo"} do
    fails("EINVAL", "invalid argument", evlua.timeout(10, fs.copy, source, root .. "/x"))
  end
  assert(not fs.exists(root .. "/x"))
end)

it("moves, also to another file system", function()
  local root = tree("move", {"a/b/two", "a/one"})
  assert(fs.move(root .. "/a", root .. "/z") and not fs.exists(root .. "/a") and fs.read(root .. "/z/b/two"))
  fails("ENOENT", "nothing", fs.move(root .. "/nothing", root .. "/x"))
  local other = fs.exists("/dev/shm") and fs.temp_dir{dir = "/dev/shm"}
  if other and fs.stat(other).device ~= fs.stat(root).device then
    assert(fs.utimes(root .. "/z/one", nil, 1234.5))
    assert(fs.move(root .. "/z", other .. "/moved"))
    assert(not fs.exists(root .. "/z") and fs.read(other .. "/moved/b/two") == "a/b/two")
    assert(fs.stat(other .. "/moved/one").modified == 1234.5)
    assert(fs.move(other .. "/moved/one", root .. "/back") and fs.read(root .. "/back") == "a/one")
    assert(#fs.list(other) == 1 and #fs.list(root) == 1)
  end
  if other then assert(fs.remove_all(other)) end
end)

it("removes trees, and follows no links", function()
  local root = tree("remove", {"a/b/c/d/e", "keep/me"})
  assert(fs.symlink("../keep", root .. "/a/link"))
  for i = 1, 2500 do assert(fs.write(root .. "/a/b/" .. i, "")) end
  assert(fs.remove_all(root .. "/a") and not fs.exists(root .. "/a") and fs.read(root .. "/keep/me"))
  fails("ENOENT", "remove", fs.remove_all(root .. "/a"))
  for _, ending in ipairs{"/keep/.", "/keep/..", "/keep/me/../", "/.//"} do
    fails("EINVAL", "remove", fs.remove_all(root .. ending))
  end
  assert(fs.symlink("keep", root .. "/link"))
  assert(fs.remove_all(root .. "/link") and fs.read(root .. "/keep/me"))
  assert(fs.remove_all(root .. "/keep/me") and not fs.exists(root .. "/keep/me"))
end)

-- Somebody who has enough of it is heard soon, whatever there is to remove.
it("ends in the middle of a removal, whatever there is to remove", function()
  local root, count, left, attempts = place .. "/many", 3000, 0, 0
  local deadline = evlua.now() + 60
  repeat
    assert(evlua.now() < deadline, "never in the middle")
    attempts = attempts + 1
    for i = 1, count do assert(fs.mkdir(root .. "/" .. i, {parents = true})) end
    evlua.timeout(attempts % 20 / 1000, fs.remove_all, root)
    left = fs.exists(root) and #assert(fs.list(root)) or 0
    assert(left == 0 or fs.remove_all(root))
  until left > 0 and left < count
end)

it("makes temporary files and folders", function()
  local file, path = assert(fs.temp_file{dir = place, prefix = "p-", suffix = ".txt"})
  assert(path:find("^" .. place:gsub("%p", "%%%0") .. "/p%-%w+%.txt$"), path)
  assert(file:write("text") and file:read_at(10, 0) == "text" and file:close())
  assert(fs.stat(path).permissions == tonumber("600", 8))
  local folder = assert(fs.temp_dir{dir = place})
  assert(fs.stat(folder).permissions == tonumber("700", 8) and folder ~= fs.temp_dir{dir = place})
  fails("ENOENT", nil, fs.temp_dir{dir = place .. "/nowhere"})
  raises("option 'prefix'", fs.temp_file, {prefix = "../x"})
  raises("option 'dir'", fs.temp_dir, {dir = "a\0b"})
end)

it("changes what is known of a file", function()
  local path = place .. "/metadata"
  assert(fs.replace(path, "one") and fs.replace(path, "two", {permissions = tonumber("600", 8)}))
  assert(fs.read(path) == "two")
  assert(fs.chmod(path, tonumber("4711", 8)) and fs.stat(path).permissions == tonumber("4711", 8))
  fails("ENOENT", "chmod ", fs.chmod(place .. "/nothing", 0))
  raises("bad argument #2", fs.chmod, path, 1 << 20)
  assert(fs.utimes(path, 1.5, -2.25))
  assert(fs.stat(path).accessed == 1.5 and fs.stat(path).modified == -2.25)
  assert(fs.utimes(path, nil, 7) and fs.stat(path).accessed == 1.5 and fs.stat(path).modified == 7)
  raises("out of range", fs.utimes, path, 1e300)
  assert(fs.link(path, place .. "/linked") and fs.stat(path).links == 2)
  fails("EEXIST", "link ", fs.link(path, place .. "/linked"))
  local me = fs.stat(path)
  assert(fs.chown(path, me.uid, me.gid) and fs.chown(path))
  fails("EINVAL", "chown ", fs.chown(path, "nobody-such"))
  if assert(process.run{"id", "-u"}).stdout == "0\n" then
    assert(fs.chown(path, "daemon", 4321) and fs.stat(path).gid == 4321)
    assert(fs.stat(path).uid == tonumber(process.run{"id", "-u", "daemon"}.stdout))
    assert(fs.symlink("metadata", place .. "/symlink"))
    assert(fs.chown(place .. "/symlink", 77, nil, {follow = false}))
    assert(fs.lstat(place .. "/symlink").uid == 77 and fs.stat(path).uid ~= 77)
  end
  local set, _, code = fs.setxattr(path, "user.name", "value\0more")
  if set then
    assert(fs.getxattr(path, "user.name") == "value\0more" and fs.listxattr(path)[1] == "user.name")
    assert(fs.removexattr(path, "user.name") and #fs.listxattr(path) == 0)
    fails("ENODATA", "getxattr ", fs.getxattr(path, "user.name"))
  else
    assert(code == "EOPNOTSUPP" or code == "ENOTSUP", code)
  end
end)

it("locks files", function()
  local path = place .. "/locked"
  assert(fs.write(path, ""))
  local one, two = assert(fs.open(path, "r+")), assert(fs.open(path, "r+"))
  assert(one:lock())
  assert(fails("ETIMEDOUT", nil, two:lock{timeout = 0.02}) == "lock: timed out")
  fails("ETIMEDOUT", nil, two:lock{shared = true, timeout = 0})
  assert(select(3, evlua.timeout(0.02, two.lock, two)) == "ETIMEDOUT")
  -- Another process sees the same lock.
  assert(process.run{"flock", "-n", path, "true"}.code == 1)
  local got
  local waiter = evlua.spawn(function() got = two:lock() end)
  evlua.sleep(0.01)
  assert(got == nil and one:unlock())
  waiter:join()
  assert(got == true and two:unlock())
  assert(one:lock{shared = true} and two:lock{shared = true, timeout = 0})
  fails("ETIMEDOUT", nil, two:lock{timeout = 0.01})
  assert(one:close())
  assert(two:lock{timeout = 5})
  fails("EBADF", "closed", one:lock())
  -- Many who wait take no threads from others.
  local waiters, order = {}, 0
  for i = 1, 100 do
    local file = assert(fs.open(path))
    waiters[i] = function()
      assert(file:lock())
      order = order + 1
      assert(file:close())
      return true
    end
  end
  local all = evlua.spawn(function() return evlua.all(waiters) end)
  evlua.sleep(0.01)
  assert(fs.read("/etc/passwd", {timeout = 5}) and order == 0)
  two:close()
  assert(all:join() and order == 100)
  local file = assert(fs.open(path, "r+"))
  assert(file:allocate(5000) and file:stat().size == 5000 and file:allocate(1000, 6000) and file:stat().size == 7000)
  raises("bad argument #2", file.allocate, file, 0)
  file:close()
end)

it("locks parts of a file", function()
  local root = tree("ranges", {"file"})
  local path = root .. "/file"
  local one, two = assert(fs.open(path, "r+")), assert(fs.open(path, "r+"))
  assert(one:lock{offset = 10, length = 10})
  assert(two:lock{length = 10, timeout = 0} and two:lock{offset = 20, timeout = 0})
  assert(fails("ETIMEDOUT", nil, two:lock{offset = 19, length = 1, timeout = 0.01}) == "lock: timed out")
  fails("ETIMEDOUT", nil, two:lock{offset = 0, timeout = 0})
  fails("ETIMEDOUT", nil, one:lock{offset = 1 << 40, length = 1, timeout = 0})
  -- Another process, and fcntl(2), see the same lock: theirs, since Python's are those of a process.
  local ask = "import fcntl, sys; f = open(sys.argv[1], 'r+')\n"
    .. "try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, int(sys.argv[3]), int(sys.argv[2]))\n"
    .. "except OSError: sys.exit(7)"
  assert(process.run{"python3", "-c", ask, path, "15", "1"}.code == 7)
  -- Parts are given back; a kind is changed in place.
  assert(one:unlock{offset = 15, length = 5} and two:lock{offset = 15, length = 5, timeout = 0})
  assert(two:unlock{offset = 0} and process.run{"python3", "-c", ask, path, "15", "1"}.ok)
  assert(one:lock{offset = 10, length = 5, shared = true} and two:lock{offset = 10, length = 2, shared = true})
  fails("ETIMEDOUT", nil, two:lock{offset = 10, length = 2, timeout = 0})
  -- Waiting, and cancellation.
  local waiter = evlua.spawn(function() return two:lock{offset = 10, length = 2, timeout = 30} end)
  assert(select(3, evlua.timeout(0.02, two.lock, two, {offset = 12, length = 1})) == "ETIMEDOUT")
  assert(one:unlock{} and waiter:status() == "waiting" and one:unlock{offset = 0})
  assert(waiter:join() == true)
  -- The whole file is another lock; closing ends them.
  assert(one:lock{timeout = 0})
  assert(two:close() and one:lock{offset = 0, timeout = 5})
  local reader = assert(fs.open(path))
  fails("EBADF", "lock: ", reader:lock{offset = 0, length = 1})
  fails("ETIMEDOUT", nil, reader:lock{offset = 0, length = 1, shared = true, timeout = 0})
  raises("option 'offset' must not be negative", one.lock, one, {offset = -5})
  raises("option 'length' must not be negative", one.lock, one, {length = -2})
  raises("beyond what a file can have", one.lock, one, {offset = 2, length = math.maxinteger})
  raises("unknown option", one.unlock, one, {shared = true})
  one:close()
  reader:close()
end)

it("reads and writes past the cache of the system", function()
  local root = tree("direct", {"file"})
  local file, message, code = fs.open(root .. "/data", "w+", {direct = true})
  raises("option 'direct'", fs.open, root .. "/data", "a", {direct = true})
  local plain = assert(fs.open(root .. "/file", "r+"))
  assert(plain:alignment() == 1)
  plain:close()
  if file == nil then
    assert(code == "EOPNOTSUPP" and message:find("data: operation not supported"), message)
    io.stderr:write("SKIPPED: this file system has no direct I/O\n")
    return
  end
  local unit = file:alignment()
  assert(unit >= 2 and unit <= 65536 and unit & (unit - 1) == 0, unit)
  local parts = {}
  for i = 1, 3 * 1024 * 1024 // 8 do parts[i] = string.pack(">I8", i * 0x9e3779b97f4a7c15) end
  local data = table.concat(parts)
  assert(file:write(data) and file:seek() == #data)
  fails("EINVAL", "multiples of " .. unit, file:write_at("x", 0))
  fails("EINVAL", "multiples of " .. unit, file:write_at(data:sub(1, unit), 1))
  fails("EINVAL", "multiples of " .. unit, file:write("short"))
  assert(fs.read(root .. "/data") == data)
  -- Reads begin and end anywhere.
  for _, range in ipairs{{1, 0}, {unit, 0}, {3, unit - 1}, {unit + 2, unit - 1}, {100000, 12345}, {1, #data - 1}} do
    local got = assert(file:read_at(range[1], range[2]))
    assert(got == data:sub(range[2] + 1, range[2] + range[1]), range[1])
  end
  assert(#file:read_at(#data, 5) == 1 << 20)  -- so much at once
  assert(file:read_at(100, #data - 7) == data:sub(-7))
  fails("EOF", "end of file", file:read_at(10, #data))
  -- By the position, also where the end of the file is in a block.
  assert(file:truncate(#data - 5) and file:seek("set", 0) == 0)
  local all = {}
  for chunk in file:chunks(99999) do all[#all + 1] = chunk end
  assert(table.concat(all) == data:sub(1, -6))
  assert(file:seek("set", unit) == unit and file:write(("y"):rep(unit)) and file:seek() == 2 * unit)
  assert(file:read_at(unit, unit) == ("y"):rep(unit))
  assert(file:seek("set", 3) == 3)
  fails("EINVAL", "at 3", file:write(("y"):rep(unit)))
  assert(fs.write(root .. "/lines", "one\ntwo\n"))
  local lines = assert(fs.open(root .. "/lines", "r", {direct = true}))
  assert(lines:read("l") == "one" and lines:read("a") == "two\n" and select(3, lines:read()) == "EOF")
  -- As an end of evlua.pipe.
  assert(file:seek("set", 0) and lines:seek("set", 0))
  local copy = assert(fs.open(root .. "/copy", "w+"))
  assert(evlua.pipe(file, copy) == #data - 5)
  assert(copy:stat().size == #data - 5 and copy:read_at(50000, 0) == file:read_at(50000, 0))
  -- Many at once.
  local reads = {}
  for i = 1, 40 do
    local at = i * 5000 + 100000
    reads[i] = function() return file:read_at(1000, at) == data:sub(at + 1, at + 1000) end
  end
  for _, right in ipairs{evlua.all(reads)} do assert(right) end
  for _, open in ipairs{file, lines, copy} do open:close() end
end)

-- Reads events until `done(seen)`; `seen` counts them by "type name".
local function gather(watcher, done)
  local seen = {}
  while not done(seen) do
    local event = assert(watcher:read{timeout = 20})
    local key = event.type .. " " .. tostring(event.name)
    seen[key] = (seen[key] or 0) + 1
  end
  return seen
end

it("watches trees", function()
  local root = tree("watch_trees", {"a/b/c/file", "other/file"})
  assert(fs.mkdir(root .. "/outside") and fs.symlink(root .. "/other", root .. "/a/link"))
  local watcher = assert(fs.watch(root .. "/a", {recursive = true}))
  assert(fs.write(root .. "/a/b/c/file", "new"))
  gather(watcher, function(seen) return seen["written b/c/file"] end)
  -- What is behind a link is not of the tree.
  assert(fs.write(root .. "/other/file", "new") and fs.write(root .. "/a/mark", ""))
  local seen = gather(watcher, function(s) return s["written mark"] end)
  for key in pairs(seen) do assert(not key:find("link"), key) end
  -- Deep folders and files in them, made at once: each is told, and once.
  for i = 1, 50 do
    assert(fs.mkdir(("%s/a/n%d/x/y"):format(root, i), {parents = true}))
    assert(fs.write(("%s/a/n%d/x/y/file"):format(root, i), "content"))
  end
  seen = gather(watcher, function(s)
    for i = 1, 50 do
      if not s[("created n%d/x/y/file"):format(i)] then return false end
    end
    return true
  end)
  for i = 1, 50 do
    for _, name in ipairs{"n%d", "n%d/x", "n%d/x/y", "n%d/x/y/file"} do
      local key = "created " .. name:format(i)
      assert(seen[key] == 1, key .. " " .. tostring(seen[key]))
    end
  end
  -- They are watched from now on.
  assert(fs.remove(root .. "/a/n7/x/y/file") and fs.write(root .. "/a/n7/x/y/again", ""))
  gather(watcher, function(s) return s["removed n7/x/y/file"] and s["written n7/x/y/again"] end)
  -- Moved inside: told below the new name. Moved out: told no more. Moved in: what is there is told.
  assert(fs.rename(root .. "/a/n8", root .. "/a/m8"))
  gather(watcher, function(s) return s["moved_from n8"] and s["moved_to m8"] and s["created m8/x/y/file"] end)
  assert(fs.write(root .. "/a/m8/x/y/file", "changed"))
  gather(watcher, function(s) return s["written m8/x/y/file"] and not s["written n8/x/y/file"] end)
  assert(fs.rename(root .. "/a/n9", root .. "/outside/n9"))
  gather(watcher, function(s) return s["moved_from n9"] end)
  assert(fs.write(root .. "/outside/n9/x/y/file", "unseen") and fs.write(root .. "/a/mark", ""))
  seen = gather(watcher, function(s) return s["written mark"] end)
  for key in pairs(seen) do assert(not key:find("n9"), key) end
  assert(fs.rename(root .. "/outside/n9", root .. "/a/back"))
  gather(watcher, function(s) return s["moved_to back"] and s["created back/x/y/file"] end)
  -- Removed, made again: watched again.
  assert(fs.remove_all(root .. "/a/n1") and fs.mkdir(root .. "/a/n1"))
  gather(watcher, function(s) return s["removed n1/x/y/file"] and s["removed n1"] and s["created n1"] end)
  assert(fs.write(root .. "/a/n1/new", ""))
  gather(watcher, function(s) return s["created n1/new"] end)  -- perhaps before it was watched
  -- More than the system keeps: that is told, and everything is watched afterwards.
  local limit = tonumber(fs.read("/proc/sys/fs/inotify/max_queued_events"))
  if limit <= 20000 then
    assert(fs.mkdir(root .. "/a/flood") and fs.write(root .. "/a/flood/mark", ""))
    gather(watcher, function(s) return s["created flood/mark"] end)  -- it is watched now
    local writer = evlua.spawn(function()
      local one = assert(fs.open(root .. "/a/flood/one", "w"))
      local two = assert(fs.open(root .. "/a/flood/two", "w"))
      for _ = 1, limit // 2 + 1000 do assert(one:write("x") and two:write("x")) end  -- no two events alike in a row
      assert(one:close() and two:close())  -- else the top would not be gone before they are collected
      assert(fs.mkdir(root .. "/a/flood/late"))
    end)
    writer:join()
    gather(watcher, function(s) return s["overflow nil"] end)
    while watcher:read{timeout = 0.05} do end  -- what is behind it
    assert(fs.write(root .. "/a/flood/late/file", ""))
    gather(watcher, function(s) return s["written flood/late/file"] end)
  end
  -- The end, when the top is gone.
  assert(fs.remove_all(root .. "/a"))
  local last
  for event in watcher:events() do last = event end
  assert(last.type == "removed" and last.name == nil)
  watcher:close()
  -- A file is watched as ever; closing ends a reader.
  local single = assert(fs.watch(root .. "/other/file", {recursive = true}))
  assert(fs.write(root .. "/other/file", "x"))
  gather(single, function(s) return s["written nil"] end)
  local reader = evlua.spawn(function() return select(3, single:read()) end)
  while reader:status() ~= "waiting" do evlua.yield() end
  assert(single:close() and reader:join() == "ECANCELED")
  fails("ENOENT", "watch /nowhere: ", fs.watch("/nowhere", {recursive = true}))
  raises("unknown option", fs.watch, root, {deep = true})
end)

-- A large tree: whoever begins to watch it can be cancelled, and what is large and appears is found piece by piece.
it("watches large trees, and gives up when it is cancelled", function()
  local root = tree("watch_large", {})
  local function fill(top, count)
    for i = 1, count do assert(fs.mkdir(("%s/%d/in"):format(top, i), {parents = true})) end
  end
  fill(root .. "/outside", 700)
  local attempts = 0
  repeat  -- on a busy machine it may be over before the cancellation
    attempts = attempts + 1
    assert(attempts < 50, "it is never cancelled")
    local task = evlua.spawn(fs.watch, root .. "/outside", {recursive = true})
    evlua.sleep(0.001)  -- it has begun
    task:cancel()
    local early, _, code = task:join()
    if early then early:close() end
  until code == "ECANCELED"
  assert(fs.mkdir(root .. "/top"))
  local watcher = assert(fs.watch(root .. "/top", {recursive = true}))
  assert(fs.rename(root .. "/outside", root .. "/top/inside"))
  local left = 700
  while left > 0 do
    local event = assert(watcher:read{timeout = 20})
    if event.type == "created" and event.name:find("^inside/%d+/in$") then left = left - 1 end
  end
  assert(fs.write(root .. "/top/inside/700/in/file", ""))
  gather(watcher, function(s) return s["created inside/700/in/file"] end)
  watcher:close()
end)

-- A tree whose top gets another name: what is watched stays so, and no directory at the old name is mistaken for one.
it("watches a tree whose top gets another name", function()
  local root = tree("watch_moved", {"top/known/file"})
  local watcher = assert(fs.watch(root .. "/top", {recursive = true}))
  assert(fs.rename(root .. "/top", root .. "/moved"))
  gather(watcher, function(s) return s["moved nil"] end)
  assert(fs.mkdir(root .. "/top/new", {parents = true}))
  assert(fs.mkdir(root .. "/moved/new"))
  gather(watcher, function(s) return s["created new"] end)
  assert(fs.write(root .. "/top/new/other", "") and fs.write(root .. "/moved/known/file", "x"))
  local seen = gather(watcher, function(s) return s["written known/file"] end)
  assert(not seen["created new/other"])
  watcher:close()
end)

it("watches folders and files", function()
  local root = tree("watch", {"inside", "before"})
  local watcher = assert(fs.watch(root))
  local function expect(...)
    local seen, wanted = {}, {...}
    for i = 1, #wanted do
      local event = assert(watcher:read{timeout = 20})
      seen[i] = event.type .. " " .. tostring(event.name)
      assert(seen[i] == wanted[i], table.concat(seen, ", "))
      if i == #wanted then return event end
    end
  end
  assert(fails("ETIMEDOUT", nil, watcher:read{timeout = 0.01}) == "watch: timed out")
  -- A waiting reader gets what comes; another one is refused.
  local waiting = evlua.spawn(function() return assert(watcher:read()) end)
  while waiting:status() ~= "waiting" do evlua.sleep(0.001) end
  fails("EBUSY", "watch: ", watcher:read())
  assert(fs.mkdir(root .. "/folder"))
  local event = waiting:join()
  assert(event.type == "created" and event.name == "folder" and event.directory == true)
  assert(fs.write(root .. "/file", "content"))
  assert(expect("created file", "modified file", "written file").directory == false)
  assert(fs.rename(root .. "/file", root .. "/other"))
  local from = expect("moved_from file")
  assert(from.move and expect("moved_to other").move == from.move)
  assert(fs.chmod(root .. "/other", 0) and fs.remove(root .. "/other"))
  expect("attributes other", "removed other")
  assert(fs.rmdir(root .. "/folder"))
  expect("removed folder")
  -- More at once than one read from the system takes.
  for i = 1, 300 do assert(fs.write(root .. "/" .. i, "")) end
  for i = 1, 300 do expect("created " .. i, "written " .. i) end
  -- A file by itself, until it is no more.
  local file = assert(fs.watch(root .. "/inside"))
  assert(fs.write(root .. "/inside", "x") and fs.remove(root .. "/inside"))
  local types = {}
  for each in file:events() do
    assert(each.name == nil)
    types[each.type] = true
  end
  assert(types.modified and types.written and types.removed and not types.created)
  assert(fails("EOF", nil, file:read()) == "end of file")
  assert(file:close() and file:close() and tostring(file) == "watcher (closed)")
  fails("EBADF", "watch: ", file:read())
  -- Closing ends a reader, and an iterator.
  while watcher:read{timeout = 0.01} do end
  local reader = evlua.spawn(function() return select(3, watcher:read()) end)
  while reader:status() ~= "waiting" do evlua.sleep(0.001) end
  assert(watcher:close() and reader:join() == "ECANCELED")
  fails("ENOENT", "watch /nowhere: ", fs.watch("/nowhere"))
end)

-- What is too deep to have a path does not keep the rest from being watched.
it("watches the rest of a tree where a part is too deep to have a path", function()
  local root = tree("too_deep", {"a/", "b/"})
  local long = ("d"):rep(200)
  local half = ("/" .. long):rep(15)
  assert(fs.mkdir(root .. "/a" .. half, {parents = true}) and fs.mkdir(root .. "/b" .. half, {parents = true}))
  assert(fs.rename(root .. "/b/" .. long, root .. "/a" .. half .. "/more"))
  local watcher = assert(fs.watch(root, {recursive = true}))
  assert(fs.write(root .. "/a/file", ""))
  gather(watcher, function(seen) return seen["written a/file"] end)
  -- One that comes later, beside others.
  assert(fs.mkdir(root .. "/c/one", {parents = true}))
  assert(fs.mkdir(root .. "/c" .. half, {parents = true}) and fs.mkdir(root .. "/b" .. half, {parents = true}))
  assert(fs.rename(root .. "/b/" .. long, root .. "/c" .. half .. "/more"))
  local mark = assert(fs.mkdir(root .. "/c/two")) and root .. "/c/two"
  gather(watcher, function(seen) return seen["created c/two"] end)
  assert(fs.write(mark .. "/file", ""))
  gather(watcher, function(seen) return seen["created c/two/file"] end)
  watcher:close()
end)

after_all(function() assert(fs.remove_all(place)) end)
