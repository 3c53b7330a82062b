-- Every read format, on files, at their ends, and mixed.
local name = "data"
local function write(text) local f = assert(io.open(name, "wb")) assert(f:write(text)) assert(f:close()) end
local function show(...)
  local t = table.pack(...)
  for i = 1, t.n do t[i] = (type(t[i]) == "string" and "%q" or "%s"):format(tostring(t[i])) end
  print(t.n, table.concat(t, " "))
end

local formats = {"n", "l", "L", "a", "*n", "*l", "*L", "*a", "line", "*all", 0, 1, 3, 100, 1.0}
local texts = {
  "", "\n", "a", "a\n", "a\nb", "\n\n", "12", "12\n", " 12 13", "0x1F,", "0x.8p1 ", "1e", "1e+", "-", "- 1", ".5.",
  "5..6", "nan", "inf", "1e5x", "99999999999999999999", "0x", "0xg", "   ", "\0\0a\0\nb", ("x"):rep(70000) .. "\ny",
  ("1"):rep(199), ("1"):rep(250), "  \n\t 7 8\n9", "+7", "--7", "0.1e-3-", "1\r\n2\r\n",
}
for t, text in ipairs(texts) do
  write(text)
  for _, first in ipairs(formats) do
    for _, second in ipairs({"n", "l", "L", "a", 0, 2}) do
      local f = assert(io.open(name, "rb"))
      io.write(t, " ", first, " ", second, ": ")
      local function short(...)
        local all = table.pack(...)
        for i = 1, all.n do
          if type(all[i]) == "string" and #all[i] > 100 then all[i] = #all[i] .. all[i]:sub(-3) end
        end
        return table.unpack(all, 1, all.n)
      end
      show(short(f:read(first, second)))
      show(short(f:read("a")))
      show(f:seek())
      f:close()
    end
  end
end

-- Wrong formats.
local f = io.open(name)
print(pcall(f.read, f, "x")) print(pcall(f.read, f, "*x"))
print(pcall(f.read, f, {})) print(pcall(f.read, f, "l", "q"))
print(pcall(io.read, "x")) print(pcall(f.read)) print(pcall(f.read, 42)) print(pcall(f.lines, f, "x"))
print(pcall(function() for _ in f:lines("x") do end end))
print(pcall(function() return f:read("x") end))
print(pcall(function() return io.read("x") end))
print(pcall(function() return f:read(1.5) end))
print(pcall(f.seek, f, "bad"))
print(pcall(f.seek, f, "set", 1.5))
print(pcall(f.seek, f, "set", -1))
print(pcall(f.setvbuf, f, "bad"))
print(pcall(f.setvbuf, f))
f:close()
for _, method in ipairs({"read", "write", "lines", "seek", "setvbuf", "flush", "close"}) do
  print(method, pcall(f[method], f))
end
print(f, io.type(f), io.type(io.stdout), io.type(1), pcall(io.type))

-- Lines.
write("one\ntwo\n\nfour\n5 6\nlast")
for line in io.lines(name) do io.write("<", line, ">") end print()
for line in io.lines(name, "L") do io.write("<", line, ">") end print()
for a, b in io.lines(name, 1, "l") do io.write("<", a, "|", tostring(b), ">") end print()
for n in io.lines(name, "n") do print(n) end
for all in io.lines(name, "a") do print(#all) break end
print(pcall(io.lines, "nowhere")) print(pcall(io.lines, name, table.unpack({}, 1, 251)))
local iterate = io.lines(name) while iterate() do end print(pcall(iterate))
f = io.open(name) iterate = f:lines() print(iterate()) f:close() print(pcall(iterate))
f = io.open(name)
for line in f:lines() do if line == "" then break end end
print(f:read("l"))
print(f:seek("cur"))
f:close()
print(select("#", io.lines(name)))

-- Reading what may not be read, and the like.
f = io.open("out", "w") print(f:read("l")) print(f:read(0)) print(f:read("a")) f:close()
f = io.open("out", "r") print(f:write("x")) print(f:write()) f:close()
print(io.open("/"))
f = io.open("/")
print(f:read("l"))
print(f:read("a"))
print(f:read(0))
print(pcall(function() for _ in f:lines() do end end))
f:close()
for _, mode in ipairs({"", "z", "r+b", "rb+", "rw", "r+", "w+b", "a+", "rbb", "+r", "ab"}) do
  print(mode, (pcall(io.open, name .. mode:gsub("%W", "_"), mode)), select(2, pcall(io.open, "no/such", mode)))
end
