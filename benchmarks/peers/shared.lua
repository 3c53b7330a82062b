-- GET /get/KEY, /incr/KEY: how long a call of the shared dictionary takes, in ns, and in which Vm it was made.
local evlua, shared = require "evlua", require "evlua.shared"
local dict = shared.dict("bench")
local calls = 2000000

return function(req, res)
  local operation, key = req.path:match("^/(%w+)/(%w+)$")
  if not operation then return res:text("Hello, World!") end
  dict:add(key, 1)
  local began = evlua.now()
  if operation == "get" then
    for _ = 1, calls do dict:get(key) end
  else
    for _ = 1, calls do dict:incr(key, 1) end
  end
  res:text(("%s %.2f"):format(tostring(_G), (evlua.now() - began) / calls * 1e9))
end
