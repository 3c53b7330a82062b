-- lua-cjson: texts to values and back.
local cjson, safe = require "cjson", require "cjson.safe"
local value = cjson.decode('{"list": [1, 2.5, "three", null, true], "nested": {"\\u00fc": "\\n"}}')
assert(value.list[1] == 1 and value.list[2] == 2.5 and value.list[4] == cjson.null and value.nested["ü"] == "\n")
assert(cjson.encode{1, 2, {a = "x"}} == '[1,2,{"a":"x"}]' and cjson.encode{} == "{}")
assert(not pcall(cjson.decode, "{broken"))
local none, message = safe.decode("[1,")
assert(none == nil and message:find("Expected value"), message)
local list = {}
for i = 1, 10000 do list[i] = {id = i, name = ("n"):rep(i % 50)} end
local back = cjson.decode(cjson.encode(list))
assert(#back == 10000 and back[9999].id == 9999 and #back[49].name == 49)
local own = cjson.new()
own.encode_keep_buffer(false)
own.encode_sparse_array(true, 1, 1)
assert(own.encode{[1] = 1, [1000] = 2}:find('"1000":2', 1, true))
-- The other JSON of ours reads the same.
assert(require("evlua.json").decode(cjson.encode{a = {1, 2}}).a[2] == 2)
return "cjson"
