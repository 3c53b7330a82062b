it("hashes all bytes of a key", function()
  -- Goal: keys that differ only where stock Lua does not look (it hashes every second byte of these) do not collide.
  local stride, spread = {}, {}
  for i = 1, 8000 do
    local a, b = {}, {}
    for bit = 0, 15 do
      a[bit + 1] = "x" .. (i >> bit & 1)
      b[bit + 1] = (i >> bit & 1) .. "x"
    end
    stride[i], spread[i] = table.concat(a) .. "yyyyy", table.concat(b) .. "yyyyy"
  end

  local function seconds(keys)
    local began, t = os.clock(), {}
    for round = 1, 5 do
      t = {}
      for i = 1, #keys do t[keys[i]] = i end
    end
    for i = 1, #keys do assert(t[keys[i]] == i) end
    return os.clock() - began
  end

  -- With collisions one of the two takes some hundred times as long as the other.
  local one, other = seconds(stride), seconds(spread)
  assert(one < 20 * other + 0.05 and other < 20 * one + 0.05, one .. " and " .. other)
end)
