-- show(...): prints values in a form in which nothing that matters gets lost: 5 and 5.0, "" and nil.
local function text(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "userdata" or type(value) == "table" then return (tostring(value):gsub("0x%x+", "ADDRESS")) end
  return tostring(value)
end
function show(label, ...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = text((select(i, ...))) end
  print(label .. ": " .. table.concat(parts, ", "))
end
-- What a call raises, without where; LuaSocket's C functions have no names, and count arguments of methods from self.
function raised(label, ...)
  local ok, message = pcall(...)
  message = tostring(message):gsub("^.-:%d+: ", ""):gsub("bad argument #%d+ to '[^']*'", "bad argument")
  show(label, ok, ok or message)
end
-- Whether a call took about as long as it should.
local gettime = require("socket").gettime
function took(seconds, f, ...)
  local before = gettime()
  local results = table.pack(f(...))
  local spent = gettime() - before
  show("  took long enough", spent >= seconds - 0.01, spent < seconds + 20)
  return table.unpack(results, 1, results.n)
end
