-- lua-penlight: classes, containers, texts, paths and files, which wait as all of ours do.
local class, List, pretty = require "pl.class", require "pl.List", require "pl.pretty"
local path, file, dir, stringx = require "pl.path", require "pl.file", require "pl.dir", require "pl.stringx"
local tablex, template, data = require "pl.tablex", require "pl.template", require "pl.data"
local OrderedMap, Set, Date = require "pl.OrderedMap", require "pl.Set", require "pl.Date"

local Animal = class()
function Animal:_init(name) self.name = name end
function Animal:__tostring() return self.name .. ": " .. self:speak() end
local Cat = class(Animal)
function Cat:speak() return "meow" end
local felix = Cat("Felix")
assert(tostring(felix) == "Felix: meow" and Animal:class_of(felix) and felix:is_a(Animal))

local even = List{1, 2, 3, 4}:filter(function(x) return x % 2 == 0 end)
assert(tostring(even:map(function(x) return x * 10 end)) == "{20,40}")
assert(List.range(1, 5):reduce("+") == 15)
local value = {1, 2, {name = "x", list = {true, false}}}
assert(tablex.deepcompare(pretty.read(pretty.write(value)), value))
assert(tostring(Set{1, 2} * Set{2, 3}) == "[2]")
local map = OrderedMap()
map:set("z", 1)
map:set("a", 2)
assert(table.concat(map:keys(), ",") == "z,a")
assert(stringx.strip("  x ") == "x" and #stringx.split("a,b,c", ",") == 3 and stringx.startswith("evlua", "ev"))
assert(template.substitute("# for i = 1, 3 do\n$(i)\n# end\n") == "1\n2\n3\n")
local people = data.read(require("pl.stringio").open("name,age\nAnn,30\nBob,40\n"))
assert(#people == 2 and people[2][1] == "Bob" and people:column_by_name("age")[2] == 40)
assert(Date{year = 2024, month = 2, day = 28}:add{day = 2}:month() == 3)

local folder = path.tmpname() .. ".d"
assert(dir.makepath(path.join(folder, "a", "b")))
local name = path.join(folder, "a", "b", "text.txt")
assert(file.write(name, "one\ntwo\n") and file.read(name) == "one\ntwo\n")
assert(path.isfile(name) and path.isdir(folder) and path.getsize(name) == 8)
assert(path.basename(name) == "text.txt" and path.extension(name) == ".txt")
assert(path.normpath("/a/./b/../c") == "/a/c" and path.relpath("/a/b", "/a") == "b")
assert(#dir.getallfiles(folder, "*.txt") == 1)
local lines = List()
for line in io.lines(name) do lines:append(line) end
assert(lines:join(" ") == "one two")
-- Their functions are suspended where ours wait.
local evlua = require "evlua"
local slept = List{0.02, 0.01}:map(function(t) evlua.sleep(t) return t end)
assert(#slept == 2)
assert(dir.rmtree(folder) and not path.exists(folder))
return "penlight"
