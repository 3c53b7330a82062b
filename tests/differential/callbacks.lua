-- Functions of the library that call back: results, errors, and the order of what they do.
local function proxy(store, log)
  local function say(...) if log then print(...) end end
  return setmetatable({}, {
    __len = function() say("len") return store.size or #store end,
    __index = function(_, key) say("read", key) return store[key] end,
    __newindex = function(_, key, value) say("write", key, value) store[key] = value end,
  })
end
local function show(store) print(#store, table.concat(store, ",")) end

-- table.
for _, place in ipairs({1, 2, 4, 5, 0, -1, "2", 2.0, 2.5, "x", {}}) do
  local store = {"a", "b", "c"}
  print(place == 5, pcall(table.insert, proxy(store, true), place, "new"))
  show(store)
  print(pcall(table.remove, proxy(store, true), place))
  show(store)
end
local store = {"a", "b", "c", "d"}
print(pcall(table.insert, proxy(store))) print(pcall(table.insert, proxy(store), 1, 2, 3))
print(table.insert(proxy(store, true), "e")) print(table.insert(proxy(store), nil)) show(store)
print(table.remove(proxy(store, true))) print(table.remove(proxy({}, true))) print(table.remove(proxy({}, true), 0))
print(table.remove(proxy(store), nil)) show(store)
print(table.concat(proxy(store))) print(table.concat(proxy(store), ", ")) print(table.concat(proxy(store), ", ", 2))
print(table.concat(proxy(store), 1, "2", 3.0)) print(table.concat(proxy(store), nil, 3, 2) == "")
print(pcall(table.concat, proxy(store), {})) print(pcall(table.concat, proxy(store), "", "x"))
print(pcall(table.concat, proxy({1, {}, 2}))) print(pcall(table.concat, proxy(store), "", 1, 9))
print(pcall(table.concat, proxy(store), "", 2.5))
print(table.unpack(proxy(store, true))) print(table.unpack(proxy(store), 2)) print(table.unpack(proxy(store), -1, 2))
print(table.unpack(proxy(store), 3, 2)) print(table.unpack(proxy(store), math.maxinteger, math.maxinteger))
print(pcall(table.unpack, proxy(store), 1, 1e8)) print(pcall(table.unpack, proxy(store), "x"))
print(pcall(table.unpack, proxy(store), 1, {}))
print(pcall(table.unpack, proxy(store), math.mininteger, math.maxinteger))
for _, move in ipairs({{1, 3, 2}, {2, 3, 1}, {1, 3, 5}, {2, 1, 9}, {1, 0, "1"}, {1, "x", 2}, {0, math.maxinteger, 2},
                       {1, 3, math.maxinteger}, {1, 3}, {1.5, 2, 3}}) do
  local from, to = {"a", "b", "c"}, {"x", "y"}
  print(pcall(function() table.move(proxy(from, true), table.unpack(move)) end)) show(from)
  print(pcall(function() table.move(proxy(from), move[1], move[2], move[3], to) end)) show(to)
  print(pcall(function() table.move({1, 2, 3}, move[1], move[2], move[3], proxy(to, true)) end)) show(to)
end
print(pcall(table.move, proxy({}), 1, 2, 3, "not a table"))

-- What is not a table, and lengths that are none.
for _, name in ipairs({"concat", "insert", "move", "remove", "unpack"}) do
  for _, value in ipairs({1, "text", true, print, io.stdout}) do print(name, pcall(table[name], value, 1, 2, 3)) end
  print(name, pcall(table[name])) print(name, pcall(table[name], nil)) print(name, pcall(table[name], {}, {}, {}, {}))
  print(name, pcall(table[name], proxy({size = "x"}))) print(name, pcall(table[name], proxy({size = 1.5})))
  print(name, pcall(table[name], proxy({size = 0}), 1))
end
print(table.concat(proxy({size = 2.0, "a", "b"}))) print(table.unpack(proxy({size = "2", "a", "b"})))
local parent = setmetatable({10, 20, 30}, {__index = function(_, i) return i < 6 and i * 10 or nil end})
local child = setmetatable({}, {__index = parent, __newindex = parent})
print(table.concat(child, " ", 1, 5))
print(table.unpack(child, 1, 6))
table.insert(child, "first")
print(#child, parent[1])
print(pcall(function() table.concat(proxy({1, {}})) end))
print(pcall(function() table.insert(proxy({}), 5, 5) end))
print(pcall(table.unpack, setmetatable({}, {__index = function() error("from __index") end}), 1, 2))

-- ipairs.
for i, v in ipairs(proxy({"a", "b", nil, "d"}, true)) do print(i, v) end
for i, v in ipairs(child) do print(i, v) end
for i, v in ipairs(setmetatable({}, {__ipairs = function() return ipairs({"from __ipairs"}) end})) do print(i, v) end
print(pcall(ipairs)) print(pcall(ipairs, nil)) print(select("#", ipairs({}))) print(pcall(ipairs(1), 1, 0))
print(select("#", (ipairs(proxy({}))(proxy({}), 0)))) print(select(3, ipairs({})))
print(pcall(function() for _ in ipairs() do end end)) print(pcall(function() for _ in ipairs(nil) do end end))

-- gsub.
local text = "one two  three"
print(text:gsub("%w+", string.upper)) print(text:gsub("(%w)(%w*)", function(a, b) return b .. a end))
print(text:gsub("%w+", {one = 1, two = false, three = 3.5})) print(text:gsub("%w+", proxy({one = "eins"}, true)))
print(text:gsub("()", function(at) return at end)) print(text:gsub("^%w", function(c) return c:upper() end))
print(text:gsub("x*", function() return "-" end))
print(text:gsub("%w+", function() end, 2))
print(text:gsub("o", print, 0))
print(("x"):rep(20000):gsub("x", function() return "yy" end):len())
print(pcall(string.gsub, text, "%w+", function() return {} end))
print(pcall(string.gsub, text, "%w+", proxy({one = {}})))
print(pcall(string.gsub, text, "%w+", function() error("from the function") end))
print(pcall(string.gsub, text, "(", function() end))
print(pcall(string.gsub, text, "o", "%2"))
print(pcall(string.gsub))
print(pcall(string.gsub, text, "o")) print(pcall(string.gsub, text, "o", print, {}))
print(text:gsub("o", function() return (("abc"):gsub("b", function() return "B" end)) end))

-- load, by a reader.
local function reader(...)
  local pieces, at = {...}, 0
  return function() at = at + 1 return pieces[at] end
end
local big = ("local x = 1 "):rep(2000)
print(load(reader("return ", 4, 2.5))()) print(load(reader(big, "return ", "'", ("y"):rep(5000), "'"))():len())
print(load(reader("return ", "x"), "name", "t", {x = "of the environment"})())
print(pcall(load(reader("return x"), "name", "t", nil))) print(load(reader("return 1"), "name", "t", 5)())
print(load(reader("syntax error"), "=name")) print(load(reader("syntax error"))) print(load(reader("x = "), "@file"))
print(load(reader(string.dump(function() return "dumped" end)))())
print(load(reader(string.dump(function() end)), "name", "t")) print(load(reader("x = 1"), "name", "b"))
print(load(reader("return ", {}))) print(load(reader("return ", true), "name"))
print(load(reader())) print(load(reader(""))) print(load(reader("return 7 ", "", "junk"))())
print(load(function() error("in the reader") end)) print(load(function() error({}) end))
print(select("#", load(function() error() end))) print(select("#", load(reader("x"))))
print(pcall(load, reader("x"), {})) print(pcall(load, reader("x"), "name", {})) print(pcall(load, reader("x"), {}, {}))
print(pcall(load)) print(pcall(load, nil)) print(pcall(load, {})) print(load(5))
print(load(reader("return load(...)"))(reader("return 'inner'"))())

-- format.
local function named(s) return setmetatable({}, {__tostring = function() print("asked", s) return s end}) end
print(("%s %5s %-5s| %.1s %%"):format(named("a"), named("b"), named("c"), named("def")))
print(pcall(string.format, "%d", named("1"))) print(pcall(string.format, "%q", named("1")))
print(pcall(string.format, "%s", named(1))) print(pcall(string.format, "%s", named({}))) print(pcall(string.format))
print(pcall(string.format, "%s %s", named("a"))) print(pcall(string.format, "%y", named("a")))
print(pcall(string.format, "%", named("a")))
print(("%%"):format(named("unused")))
print(("%s"):format("a", named("unused")))
print(pcall(string.format, "%10.123s", "x")) print(pcall(string.format, named("x")))
print(("%s%s"):format(1, named("second")), ("%i %s"):format(3, named("after %i")))
