-- evlua.json. The grammar is in tests/lua/json_test.cpp; here is what Lua sees of it.
local evlua, json, thread = require "evlua", require "evlua.json", require "evlua.thread"
local support = dofile((...):gsub("[^/]*$", "../support.lua"))
local fails, raises = support.fails, support.raises

it("has a null", function()
  assert(tostring(json.null) == "null" and json.null ~= nil and json.null == json.decode("null"))
  assert(json.encode(json.null) == "null" and json.encode(nil) == "null" and json.encode{json.null} == "[null]")
  assert(tostring(json.null) == ("%s"):format(json.null))
  assert(thread.run(function(x)
    local other = require "evlua.json"
    return x.null == other.null and tostring(x.null)
  end, {null = json.null}) == "null")
  assert(thread.run(function() return require "evlua.json".null end) == json.null)
end)

it("keeps the kind of numbers", function()
  -- Numbers keep their kind.
  for _, number in ipairs{0, 1, -1, math.maxinteger, math.mininteger, 1 << 53, 0.0, 1.0, -1.5, 0.1, 1e100, 5e-324,
                          2.0 ^ 53, 1.7976931348623157e308, 2.0 ^ 63, 1e15, 123456789.125, 1 / 3} do
    local back = json.decode(json.encode(number))
    assert(back == number and math.type(back) == math.type(number), number)
  end
  assert(json.encode(1.0) == "1.0" and json.encode(1) == "1" and 1 / json.decode("-0.0") == -1 / 0)
  local seed = os.time()
  math.randomseed(seed)
  for _ = 1, 20000 do
    local bits = string.pack("<I4I4", math.random(0, 0xffffffff), math.random(0, 0xffffffff))
    local number = string.unpack("<d", bits)
    local text = json.encode(number)
    if number ~= number or number - number ~= 0 then
      assert(text == nil)
    else
      local back = json.decode(text)
      assert(back == number and math.type(back) == "float", ("seed %d: %s"):format(seed, text))
    end
    local integer = string.unpack("<i8", bits) >> math.random(0, 63)
    assert(json.decode(json.encode(integer)) == integer and math.type(json.decode(json.encode(-integer))) == "integer")
  end
  for text, float in pairs{["9223372036854775808"] = 2.0 ^ 63, ["-9223372036854775809"] = -2.0 ^ 63,
                           ["18446744073709551615"] = 2.0 ^ 64, ["1" .. ("0"):rep(300)] = 1e300} do
    local back = json.decode(text)
    assert(back == float and math.type(back) == "float")
    assert(json.decode(text, {big = "float"}) == float and json.decode(text, {big = "string"}) == text)
    fails("EINVAL", "integer of more than 64 bits at line 1, column 2 (byte 2)",
            json.decode("[" .. text .. "]", {big = "error"}))
  end
  fails("EINVAL", "number out of range", json.decode("1" .. ("0"):rep(400)))
  assert(json.decode("1" .. ("0"):rep(400), {big = "string"}) == "1" .. ("0"):rep(400))
  assert(json.decode("[9223372036854775807]", {big = "error"})[1] == math.maxinteger)
end)

it("escapes strings", function()
  -- Strings: each code point, in its own bytes and escaped; each byte as the encoder escapes it.
  local function escaped(code)
    if code < 0x10000 then return ("\\u%04x"):format(code) end
    return ("\\u%04X\\u%04x"):format(0xd800 + ((code - 0x10000) >> 10), 0xdc00 + ((code - 0x10000) & 0x3ff))
  end
  for code = 0, 0x10ffff, os.getenv("EVLUA_SANITIZE") == "" and 1 or 97 do
    if code < 0xd800 or code > 0xdfff then
      local character = utf8.char(code)
      assert(json.decode('"' .. escaped(code) .. '"') == character)
      assert(json.decode(json.encode(character)) == character)
    end
  end
  assert(json.encode("\0\1\b\t\n\f\r\31 \"\\/\127é") == [["\u0000\u0001\b\t\n\f\r\u001f \"\\/]] .. "\127é\"")
  for size = 0, 40 do  -- every place within the words that are looked at
    for at = 1, size do
      for _, special in ipairs{'"', "\\", "\n", "\0", "é", "\127", "!", "#", "[", "]"} do
        local text = ("x"):rep(at - 1) .. special .. ("y"):rep(size - at)
        assert(json.decode(json.encode(text)) == text)
        assert(json.decode(json.encode{[text] = text})[text] == text)
      end
      local text = ("x"):rep(at - 1) .. "\xff" .. ("y"):rep(size - at)
      fails("EINVAL", ("a string that is not UTF-8 (byte %d)"):format(at), json.encode(text))
      fails("EINVAL", ("not UTF-8 at line 1, column %d "):format(at + 1), json.decode('"' .. text .. '"'))
    end
  end
  for _, bad in ipairs{"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
    "\xf4\x90\x80\x80",
                       "a\xe2\x82", "\xff", "\xf5\x80\x80\x80", "\"\xc3", "\n\xed\xa0\x80"} do
    fails("EINVAL", "not UTF-8", json.encode(bad))
    fails("EINVAL", "not UTF-8", json.encode{[bad] = 1})
  end
  local long = ("0123456789"):rep(100000)
  assert(json.decode(json.encode{long, long .. "\n"})[2] == long .. "\n")
end)

it("tells arrays from objects", function()
  -- Arrays and objects.
  assert(json.encode{} == "{}" and json.encode(json.array{}) == "[]" and json.encode(json.array()) == "[]")
  assert(json.encode(json.decode("[]")) == "[]" and json.encode(json.decode("{}")) == "{}")
  local list = json.decode("[1,2]")
  table.remove(list)
  table.remove(list)
  assert(json.encode(list) == "[]" and json.is_array(list) and not json.is_array{} and not json.is_array(1))
  list[1] = "x"
  assert(json.encode(list) == '["x"]' and json.array(list) == list)
  raises("the table has a metatable", json.array, setmetatable({}, {}))
  raises("table expected", json.array, 1)
  raises("value expected", json.is_array)
end)

it("finds elements in the hash part of a table", function()
  -- Elements in the hash part of the table, in any order of being set.
  for _, order in ipairs{{3, 2, 1}, {2, 1, 3}, {1, 3, 2}, {3, 1, 2}, {2, 3, 1}} do
    local t = {}
    for _, i in ipairs(order) do t[i] = i end
    assert(json.encode(t) == "[1,2,3]")
  end
  local many = {}
  for i = 1000, 1, -1 do many[i] = i end
  assert(json.encode(many) == "[" .. table.concat(many, ",") .. "]")
  for i = 1, 500 do many[i + 500] = nil end
  assert(json.encode(many) == "[" .. table.concat(many, ",", 1, 500) .. "]")
  local sum, deep = 0, json.decode("[" .. ("[1,{\"a\":[2]}],"):rep(50000) .. "3]")
  for i = 1, 50000 do sum = sum + deep[i][1] + deep[i][2].a[1] end
  assert(sum == 150000 and #deep == 50001)
  assert(json.decode('{"a":1,"b":2,"a":3}').a == 3)
  local shared = {1}
  assert(json.encode{shared, shared} == "[[1],[1]]")
  assert(json.encode(setmetatable({a = 1}, {__index = error, __pairs = error, __len = error})) == '{"a":1}')
end)

it("says what has no form, and where it is", function()
  -- What has no form, and where it is.
  fails("EINVAL", "a function has no form in JSON", json.encode(print))
  fails("EINVAL", "at .a.b[2]: a function has no form", json.encode{a = {b = {1, print}}})
  fails("EINVAL", 'at ["a b"]["ü"][""]: nan has no form', json.encode{["a b"] = {["ü"] = {[""] = 0 / 0}}})
  fails("EINVAL", "at [1]: inf has no form", json.encode{1 / 0})
  fails("EINVAL", "at [1]: inf has no form", json.encode{-1 / 0})
  fails("EINVAL", "at .x: a thread has no form", json.encode{x = coroutine.create(print)})
  fails("EINVAL", "a userdata has no form", json.encode(io.stdout))
  for _, holes in ipairs{{1, nil, 3}, {[2] = 1}, {[0] = 1}, {[-1] = 1}, {[1] = 1, [1 << 40] = 2}, {[0] = 0, 1, 2}} do
    fails("EINVAL", "at .t: an array with holes", json.encode{t = holes})
  end
  fails("EINVAL", "at [1]: an array with a key that is a string", json.encode{{1, 2, a = 3}})
  fails("EINVAL", "an array with a key that is a float", json.encode{1, [1.5] = 2})
  fails("EINVAL", "key that is a string", json.encode(json.array{a = 1}))
  for _, sort_keys in ipairs{false, true} do
    fails("EINVAL", "an object with a key that is a boolean", json.encode({[true] = 1}, {sort_keys = sort_keys}))
    local _, message = json.encode({x = {a = 1, [print] = 1}}, {sort_keys = sort_keys})
    assert(message == "at .x: an object with a key that is a function", message)
  end
  local mixed = {a = 1, b = 2, c = 3, [10] = 4}
  assert(not json.encode(mixed) and not json.encode(mixed, {sort_keys = true}))
  local loop = {users = {1, 2, {}}}
  loop.users[3].parent = loop.users
  fails("EINVAL", "at .users[3].parent: cycle", json.encode(loop))
  local own = {}
  own[1] = own
  fails("EINVAL", "at [1]: cycle", json.encode(own))
  local down = {}
  for _ = 1, 999 do down = {down} end
  assert(json.encode(down) == ("["):rep(999) .. "{}" .. ("]"):rep(999))
  fails("ELIMIT", "...: nested too deeply", json.encode{down})
  fails("ELIMIT", "at [1][1]: nested too deeply", json.encode({{{}}}, {max_depth = 2}))
  fails("EINVAL", ('at ["a%s"]: a function'):format(("ü"):rep(19)), json.encode{["a" .. ("ü"):rep(30)] = print})
  fails("EINVAL", 'at ["?"]: a string', json.encode{["\xff"] = 1})
end)

it("has options", function()
  local value = {b = {1, {}}, a = json.array(), c = {d = {e = "f"}}}
  assert(json.encode(value, {sort_keys = true}) == '{"a":[],"b":[1,{}],"c":{"d":{"e":"f"}}}')
  local pretty = [[
{
   "a": [],
   "b": [
      1,
      {}
   ],
   "c": {
      "d": {
         "e": "f"
      }
   }
}]]
  assert(json.encode(value, {sort_keys = true, indent = 3}) == pretty)
  assert(json.encode(value, {sort_keys = true, pretty = true}) == pretty:gsub("   ", "  "))
  assert(json.encode(value, {sort_keys = true, pretty = true, indent = 0}):find("\n") == nil)
  local names, texts = {}, {}
  for i = 1, 2000 do names[("k%d"):format(i * 7919 % 2003)] = i end
  for name in pairs(names) do texts[#texts + 1] = name end
  table.sort(texts)
  local written = json.encode(names, {sort_keys = true})
  local at = 1
  for _, name in ipairs(texts) do at = assert(written:find('"' .. name .. '":', at, true)) end
  raises("string expected", json.decode)
  raises("string expected", json.decode, 1)
  raises("value expected", json.encode)
  raises("unknown option 'depth'", json.decode, "1", {depth = 1})
  raises("unknown option 'sorted'", json.encode, 1, {sorted = true})
  raises("table expected", json.decode, "1", 1)
  raises("option 'big'", json.decode, "1", {big = "number"})
  raises("option 'max_depth': number from 1 to 5000 expected, got 5001", json.decode, "1", {max_depth = 5001})
  raises("option 'max_depth'", json.encode, 1, {max_depth = 0})
  raises("option 'indent'", json.encode, 1, {indent = 17})
  raises("option 'pretty': boolean expected", json.encode, 1, {pretty = 2})
end)

it("leaves nothing of a large text behind", function()
  -- Nothing stays behind of a large text, and a finalizer may decode while another decodes.
  local ran = 0
  local function finalize() ran = ran + #assert(json.decode(assert(json.encode{1, 2, "three"}))) end
  for _ = 1, 50 do
    for _ = 1, 20 do setmetatable({}, {__gc = finalize}) end
    local text = "[" .. ('{"a":[1,2,"x\\n"]},'):rep(500) .. "0]"
    local t = json.decode(text)
    assert(#t == 501 and t[500].a[3] == "x\n" and json.encode(t) == text)
  end
  collectgarbage()
  assert(ran > 0)
end)

it("is used by several tasks and states", function()
  -- So may several tasks, and other states.
  local results = {}
  for i = 1, 4 do
    results[i] = thread.spawn(function(n)
      local j = require "evlua.json"
      for k = 1, 200 do assert(j.decode(j.encode{n, k, {x = "y"}})[2] == k) end
      return n
    end, i)
  end
  for i = 1, 4 do assert(results[i]:join() == i) end
  assert(evlua.limit({cpu = 10}, json.decode, "[1]")[1] == 1)
end)
