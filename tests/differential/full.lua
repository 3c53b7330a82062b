-- Where nothing can be written, somebody is told: whatever is called after the write, and once.
local function try(name, f)
  local file = assert(io.open("/dev/full", "w"))
  print(name, f(file))
  print("close", file:close())
end
try("nothing", function() end)
try("write", function(file) return io.type(file:write("x")) end)
try("flush", function(file) file:write("x") return file:flush() end)
try("flush twice", function(file) file:write("x") file:flush() return file:flush() end)
try("write and flush twice", function(file)
  file:write("x")
  file:flush()
  return io.type(file:write("y")), file:flush()
end)
try("seek", function(file) file:write("x") return file:seek("cur") end)
try("no buffer", function(file) file:setvbuf("no") return file:write("x") end)
try("large", function(file)
  for _ = 1, 100 do
    local ok, message, code = file:write(("x"):rep(1000000))
    if not ok then return message, code end
  end
end)

io.output("/dev/full")
io.write("x")
local told = table.pack(io.close())
io.output(io.stdout)
print("io.close", table.unpack(told, 1, told.n))
io.output("/dev/full")
io.write("x")
told = table.pack(io.output():flush())
io.output():close()
io.output(io.stdout)
print("flush of the default output", table.unpack(told, 1, told.n))

-- A file that may not grow any more: what fits is there.
local writer = [[
  local file = assert(io.open("limited", "w"))
  local failure
  for i = 1, 40 do
    local ok, message = file:write(("x"):rep(999), "\\n")
    failure = failure or not ok and message
  end
  local ok, message = file:close()
  print(failure or not ok and message)]]
local command = ("ulimit -f 16; trap '' XFSZ; exec '%s' -e '%s'"):format(os.getenv("PROGRAM"), writer)
print(os.execute(command))
local file = assert(io.open("limited"))
print(#file:read("a") <= 16 * 1024, file:seek("set"), #file:read("l"))
file:close()
