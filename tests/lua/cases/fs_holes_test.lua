-- evlua.fs.copy of files with holes. tests/e2e/sandbox_test.py runs this where the kernel must not copy.
local fs, process = require "evlua.fs", require "evlua.process"

local root = assert(fs.temp_dir{prefix = "evlua-test-"})
local from, copy = root .. "/from", root .. "/copy"
local SIZE, PIECE = 1 << 30, 1 << 16
local data, nothing = ("data"):rep(PIECE // 4), ("\0"):rep(PIECE)

local function blocks(path)
  return tonumber(assert(process.run{"stat", "-c", "%b", path}).stdout)
end

local function piece(path, place)
  local file = assert(fs.open(path))
  local got = assert(file:read_at(PIECE, place))
  file:close()
  return got
end

-- At each of these places is a piece of data, and a hole is around it.
local function make(size, places)
  local file = assert(fs.open(from, "w"))
  for _, place in ipairs(places) do assert(file:write_at(data, place)) end
  assert(file:truncate(size))
  file:close()
end

local function check_copy(size, places, options)
  make(size, places)
  assert(fs.copy(from, copy, options))
  assert(fs.stat(copy).size == size)
  for _, place in ipairs(places) do
    assert(piece(copy, place) == data)
    if place > 0 then assert(piece(copy, place - PIECE) == nothing) end
    if place + PIECE < size then assert(piece(copy, place + PIECE) == nothing) end
  end
  local had, has = blocks(from), blocks(copy)
  assert(has <= had + 1024, has .. " blocks instead of " .. had)
end

it("keeps holes, and what is replaced does not shine through", function()
  assert(fs.write(copy, ("old"):rep(1 << 20)))
  check_copy(SIZE, {0, SIZE // 2})
  check_copy(SIZE, {SIZE // 4, SIZE - PIECE})
  check_copy(SIZE, {})
  check_copy(3 * PIECE + 5, {PIECE}, {preserve = true})
  assert(fs.stat(copy).modified == fs.stat(from).modified)
end)

it("gives everything to what is no file", function()
  make(3 * PIECE + 5, {PIECE})
  local reader = assert(process.spawn{"sh", "-c", "echo begun; exec wc -c", stdin = "pipe", stdout = "pipe"})
  assert(reader.stdout:read("l") == "begun")  -- under TSan vfork is fork, and does not wait for it
  assert(fs.copy(from, "/proc/" .. reader.pid .. "/fd/0"))
  reader.stdin:close()
  assert(tonumber(reader.stdout:read("l")) == 3 * PIECE + 5)
  assert(reader:wait().ok)
  reader:close()
end)

after_all(function() assert(fs.remove(from) and fs.remove(copy) and fs.rmdir(root)) end)
