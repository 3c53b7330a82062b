-- Writing, positions, modes, buffers.
local function content(name) local f = assert(io.open(name, "rb")) local text = f:read("a") f:close() return text end
local f = assert(io.open("a", "w"))
print(f:write("x", 1, 2.5, -0.0, 1e100, math.maxinteger, 1/0, 2^31, "\0") == f, f:seek("cur"), f:seek("end"), f:seek("set", 2), f:write("YY") == f, f:seek())
f:close() print(("%q"):format(content("a")))
print(pcall(io.write, {})) print(pcall(io.write, "a", nil)) print() print(pcall(io.write, print)) print(io.write() == io.stdout)
f = io.open("a", "r+") print(f:read(3)) print(f:seek("cur")) f:seek("cur", 0) f:write("[W]") f:seek("cur", 0) print(f:read(2)) f:close() print(("%q"):format(content("a")))
f = io.open("a", "a") print(f:seek()) f:write("END") print(f:seek()) f:seek("set", 0) f:write("2") f:close() print(("%q"):format(content("a")))
f = io.open("a", "a+") print(f:read(1)) f:seek("set", 0) print(f:read("a")) f:write("more") print(f:seek()) f:seek("set") print(#f:read("a")) f:close()
f = io.open("a", "w+") f:write("one\ntwo\n") f:seek("set") print(f:read("l")) print(f:read("l")) print(f:read("l")) f:write("three") f:seek("set", 4) print(f:read("a")) f:close()
print(pcall(f.close, f))

-- Large ones, in pieces of many sizes.
f = io.open("big", "w") local sum = 0
for i = 1, 20000 do local s = ("%d:"):format(i):rep(i % 17) sum = sum + #s f:write(s, "\n") sum = sum + 1 end
print(f:seek(), sum) f:close()
local count, bytes = 0, 0 for line in io.lines("big") do count = count + 1 bytes = bytes + #line + 1 end print(count, bytes)
f = io.open("big") local parts = {} for size = 1, 400 do parts[#parts + 1] = f:read(size) end print(f:seek(), #table.concat(parts)) local rest = f:read("a") print(#rest) print(table.concat(parts) .. rest == content("big")) f:close()
f = io.open("big") f:seek("set", 1000) local a = f:read(50) f:seek("cur", -50) print(a == f:read(50)) f:seek("end", -10) print(#f:read("a")) print(f:seek("set", 10^6)) print(f:read(1)) print(f:seek("end", 5)) f:close()
io.output("big2") io.write(content("big")) io.close() print(pcall(io.write, "x")) print(pcall(io.output().write, io.output())) io.output(io.stdout)
print(content("big2") == content("big"))
io.input("big2") print(#io.read("L")) print(io.read(5)) print(#io.read("a")) print(io.read("a"), io.read("l")) io.close(io.input()) print(pcall(io.read)) print(pcall(io.lines)) io.input(io.stdin)
print(pcall(io.input, "nowhere")) print(pcall(io.output, "no/where")) print(pcall(io.input, {}))

-- setvbuf and flush.
for _, mode in ipairs({"no", "full", "line"}) do
  f = io.open("buffered", "w") print(f:setvbuf(mode)) f:write("one\ntwo\n") print(mode == "full" or content("buffered")) print(f:flush() == f, f:flush()) print(content("buffered")) f:close()
end
f = io.open("buffered", "w") print(f:setvbuf("full", 10)) f:close()
f = io.open("/dev/full", "w") print(f:write("x") == f) print(f:flush()) print(f:close())
f = io.open("/dev/full", "w") f:setvbuf("no") print(f:write("x")) print(f:close())
f = io.open("/dev/full", "w") print(f:write("x") == f) print(f:close())
f = io.open("/dev/full", "w") print(f:write("x") == f) print(f:seek("set")) f:close()

-- Left to the collector.
do local g = io.open("collected", "w") g:write("kept by the collector") end collectgarbage() collectgarbage()
local t = io.tmpfile() print(io.type(t)) t:write("temporary") t:seek("set") print(t:read("a")) t:close()
local name = os.tmpname() print(name) print(content(name) == "") print(os.remove(name)) print(os.remove(name) == nil, select("#", os.remove(name)))
print(os.rename("a", "b")) print(os.rename("a", "b")) print(os.remove("b")) print(os.remove("nowhere/x")) print(io.open("b"))
os.execute("mkdir folder folder/inner") print(os.remove("folder")) print(os.remove("folder/inner")) print(os.remove("folder")) print(os.remove("/proc/version"))
print(pcall(os.remove)) print(pcall(os.rename, "x")) print(pcall(os.remove, {}))
print(os.getenv("HOME") == nil, os.getenv("EVLUA_NO_SUCH_VARIABLE"), type(os.clock()), type(os.time()), os.date("!%Y-%m-%d", 0), os.time({year = 2020, month = 1, day = 1, hour = 12}) ~= nil)
print(content("collected"))
