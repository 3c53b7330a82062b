-- print, tostring, load, pairs, require and their errors.
local function named(s) return setmetatable({}, {__tostring = function() return s end, __name = "named"}) end
print(named("one"), named("two"))
print(tostring(named("x")))
print(pcall(tostring, named(1)))
print(pcall(tostring, named({})))
print(pcall(print, named(nil)))
print(pcall(tostring))
print((tostring(setmetatable({}, {__name = "MY.TYPE"})):gsub("0x%x+", "ADDRESS")))
print((tostring(print):gsub("builtin: %x+", "function"):sub(1, 9)))
local saved = tostring
tostring = function(v) return "<" .. saved(v) .. ">" end
print(1, nil, "s")
tostring = function() return {} end
local ok, why = pcall(print, 1)
tostring = saved
print(ok, why)
tostring = nil
local fine = pcall(print, 1)
tostring = saved
print(fine)
print(("%s %s"):format(named("in format"), nil)) print(pcall(string.format, "%s", named({})))
print(load("return 1 + 1")())
print(load("syntax error here"))
print(load("return ...", "name", "t", {})(5))
print(load(string.dump(function() return 7 end), "b", "b")())
print(load(string.dump(function() end), "b", "t"))
print(load("x = 1", "=c", "b"))
local pieces = {"return ", "1", " + ", "41"} local i = 0 print(load(function() i = i + 1 return pieces[i] end)())
i = 0
print(load(function() i = i + 1 return ({"return 5", "", "junk"})[i] end)())
print(load(function() return nil end))
print(load(function() return "x x" == 1 end))
print(pcall(load))
print(pcall(load, {}))
local env = {y = 3}
i = 0
print(load(function() i = i + 1 return ({"return y"})[i] end, "chunk", "t", env)())
i = 0
print(load(function() i = i + 1 return ({"return +"})[i] end, "=mychunk"))
i = 0
print(load(function() i = i + 1 return ({"return +"})[i] end))
local own_pairs = setmetatable({}, {
  __pairs = function(t) return function(_, k) if not k then return 1, "from __pairs" end end, t, nil end,
})
for k, v in pairs(own_pairs) do print(k, v) end
print(pcall(pairs))
print(pcall(pairs, nil))
print(select("#", pairs({})))
print(next({}))
for k, v in pairs({10}) do print(k, v) end
print(pcall(require, "no.such.module"))
print(select("#", require("values_module")))
print(require("values_module").name, require("values_module") == package.loaded.values_module)
print(pcall(require, "broken_module")) print(pcall(require)) print(pcall(require, {}))
print(loadfile("nowhere")) print(pcall(dofile, "nowhere")) print(loadfile("/"))
local f = io.open("chunk.lua", "w")
f:write("#!shebang\nlocal a = ... return a, 'chunk'")
f:close()
print(loadfile("chunk.lua")(4))
print(dofile("chunk.lua"))
print(loadfile("chunk.lua", "b"))
print(loadfile("chunk.lua", "t", {})(1))
f = io.open("bad.lua", "w")
f:write("x = = 1")
f:close()
print(loadfile("bad.lua"))
print(pcall(dofile, "bad.lua"))
print(pcall(loadfile, {}))
print(pcall(dofile, {}))
f = io.open("compiled.luac", "wb")
f:write(string.dump(function() return "compiled" end))
f:close()
print(dofile("compiled.luac"))
print(loadfile("compiled.luac", "t"))
table.sort(arg) print(pcall(table.sort, {3, 1, "x"})) print(pcall(table.sort, {1, 2, 3}, 5))
print(("abc"):gsub("%w", function(c) return c:upper() .. "." end))
print(("abc"):gsub("%w", {a = "1", b = true, c = false}))
print(pcall(string.gsub, "abc", "%w", function() return {} end))
print(pcall(error))
print(pcall(error, nil))
print(pcall(error, {}) == false)
print(xpcall(error, function(m) return "handled " .. tostring(m) end, "e"))
