-- evlua.encoding against the vectors of RFC 4648, section 10.
local e = require "evlua.encoding"
local vectors = {
  [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy",
}
for plain, text in pairs(vectors) do
  assert(e.base64_encode(plain) == text and e.base64_decode(text) == plain)
  assert(e.base64_decode((text:gsub("=", ""))) == plain)
  assert(e.base64url_encode(plain) == text:gsub("=", ""), plain)
  assert(e.base64url_encode(plain, {padding = true}) == text)
end
assert(e.base64_encode("\xfb\xff\xfe") == "+//+" and e.base64url_encode("\xfb\xff\xfe") == "-__-")
assert(e.hex_encode("\0\xffA") == "00ff41" and e.hex_decode("00fF41") == "\0\xffA")
local every = {}
for i = 0, 255 do every[#every + 1] = string.char(i) end
every = table.concat(every)
for size = 0, 256 do
  local part = every:sub(1, size)
  assert(e.base64_decode(e.base64_encode(part)) == part and e.base64url_decode(e.base64url_encode(part)) == part)
  assert(e.hex_decode(e.hex_encode(part)) == part)
end
for _, bad in ipairs{"Z", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "-__-", "====", "Zg==Zg=="} do
  local none, message, code = e.base64_decode(bad)
  assert(none == nil and code == "EINVAL" and message:find("position"), bad)
end
assert(not e.base64url_decode("+//+") and not e.hex_decode("0") and not e.hex_decode("0g"))
assert(not pcall(e.base64_encode) and not pcall(e.base64_encode, "x", {pading = true}))
print "ok"
