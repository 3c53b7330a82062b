-- What runs is freed first, and the rest takes longer than a slice of time.
local all = {}
for i = 1, 300000 do all[i] = {tostring(i)} end
setmetatable({}, {__gc = function() print "finalized" end})
coroutine.wrap(function() os.exit(3, true) end)()
