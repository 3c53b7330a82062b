-- Whoever reads a large file line by line holds a line, not the file.
local test = require "evlua.test"
local fs = require "evlua.fs"
local it, assert, before_all, after_all = test.it, test.assert, test.before_all, test.after_all

local sanitized = (os.getenv("EVLUA_SANITIZE") or "") ~= ""  -- then the memory is not the program's alone
local SIZE, LINE = sanitized and 8 << 20 or 200 << 20, ("x"):rep(1023) .. "\n"
local GROWTH_MAX = 24 << 20

-- The most memory that the process has had.
local function peak()
  return math.tointeger(fs.read("/proc/self/status"):match("VmHWM:%s*(%d+) kB")) << 10
end

local path
before_all(function()
  path = os.tmpname()
  local file, block = assert(io.open(path, "w")), LINE:rep(1024)
  for _ = 1, SIZE // #block do assert(file:write(block)) end
  assert(file:close())
  assert(fs.stat(path).size == SIZE)
end)
after_all(function()  -- the meter sees it where the whole file is held
  local before = peak()
  local whole = fs.read(path)
  os.remove(path)
  assert.equal(#whole, SIZE)
  assert(sanitized or peak() - before > SIZE // 2)
end)

local function total(lines, with_ends)
  local bytes = 0
  for line in lines do bytes = bytes + #line + (with_ends and 0 or 1) end
  return bytes
end

local function each_read(file)
  return function() return file:read("l") end
end

for name, count in pairs{
  ["io.lines"] = function() return total(io.lines(path)) end,
  ["io.lines with ends"] = function() return total(io.lines(path, "L"), true) end,
  ["io.lines in pieces"] = function() return total(io.lines(path, 4096), true) end,
  ["file:lines of io.open"] = function() return total(assert(io.open(path)):lines()) end,
  ["file:read of io.open"] = function() return total(each_read(assert(io.open(path)))) end,
  ["file:lines of evlua.fs"] = function() return total(assert(fs.open(path)):lines()) end,
  ["file:lines of io.popen"] = function() return total(assert(io.popen("exec cat '" .. path .. "'")):lines()) end,
} do
  it(name .. " holds no more of it than a few buffers", function()
    local before = peak()
    assert.equal(count(), SIZE)
    local growth = peak() - before
    assert(sanitized or growth < GROWTH_MAX, ("%d KiB more"):format(growth >> 10))
  end)
end
