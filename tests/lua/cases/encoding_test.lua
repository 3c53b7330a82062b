-- evlua.encoding against the vectors of RFC 4648, section 10.
local e = require "evlua.encoding"

local every = {}
for i = 0, 255 do every[#every + 1] = string.char(i) end
every = table.concat(every)

describe("base64", function()
  local vectors = {
    [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy",
  }
  for plain, text in pairs(vectors) do
    it(("has the vector '%s'"):format(plain), function()
      assert.equal(text, e.base64_encode(plain))
      assert.equal(plain, e.base64_decode(text))
      assert.equal(plain, e.base64_decode((text:gsub("=", ""))))
      assert.equal((text:gsub("=", "")), e.base64url_encode(plain))
      assert.equal(text, e.base64url_encode(plain, {padding = true}))
    end)
  end

  it("has two alphabets", function()
    assert.equal("+//+", e.base64_encode("\xfb\xff\xfe"))
    assert.equal("-__-", e.base64url_encode("\xfb\xff\xfe"))
    assert.fails("EINVAL", e.base64_decode("-__-"))
    assert.fails("EINVAL", e.base64url_decode("+//+"))
  end)

  for _, bad in ipairs{"Z", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "-__-", "====", "Zg==Zg=="} do
    it(("refuses %q"):format(bad), function()
      assert.contains("position", assert.fails("EINVAL", e.base64_decode(bad)))
    end)
  end

  it("checks its arguments", function()
    assert.error(function() e.base64_encode() end, "bad argument #1")
    assert.error(function() e.base64_encode("x", {pading = true}) end, "pading")
  end)
end)

describe("hexadecimal", function()
  it("takes both cases", function()
    assert.equal("00ff41", e.hex_encode("\0\xffA"))
    assert.equal("\0\xffA", e.hex_decode("00fF41"))
  end)
  it("refuses what is none", function()
    assert.fails("EINVAL", e.hex_decode("0"))
    assert.fails("EINVAL", e.hex_decode("0g"))
  end)
end)

it("brings back every length", function()
  for size = 0, 256 do
    local part = every:sub(1, size)
    assert.equal(part, e.base64_decode(e.base64_encode(part)))
    assert.equal(part, e.base64url_decode(e.base64url_encode(part)))
    assert.equal(part, e.hex_decode(e.hex_encode(part)))
  end
end)
