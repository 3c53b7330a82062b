-- Hashes every file below a directory, 64 in flight:  evlua examples/hash_tree.lua DIRECTORY
-- Prints "Adler-32  size  path", sorted by path.
local evlua, fs = require "evlua", require "evlua.fs"

local function collect(directory, files)
  for entry in assert(fs.dir(directory)) do
    local path = directory .. "/" .. entry.name
    local kind = entry.type
    if kind == "unknown" then kind = assert(fs.lstat(path)).type end
    if kind == "directory" then
      collect(path, files)
    elseif kind == "file" then
      files[#files + 1] = path
    end
  end
  return files
end

local function adler32(path)
  local file = assert(fs.open(path))
  local a, b, size = 1, 0, 0
  for chunk in file:chunks(65536) do
    for i = 1, #chunk, 2048 do
      for _, byte in ipairs{chunk:byte(i, math.min(i + 2047, #chunk))} do
        a = a + byte
        b = b + a
      end
      a, b = a % 65521, b % 65521
    end
    size = size + #chunk
  end
  file:close()
  return ("%08x  %9d  %s"):format(b << 16 | a, size, path)
end

local files = collect(arg[1] or ".", {})
table.sort(files)
for _, line in ipairs(evlua.map(files, adler32, {concurrency = 64})) do print(line) end
