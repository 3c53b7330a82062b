-- Random 4 KiB reads of a cached file, 64 in flight: operations per second.
local evlua, fs = require "evlua", require "evlua.fs"
local path, seconds = arg[1], tonumber(arg[2])
local file = assert(fs.open(path, "r"))
local blocks = file:stat().size // 4096
local finish, count = evlua.now() + seconds, 0
evlua.scope(function(scope)
  for _ = 1, 64 do
    scope:spawn(function()
      while evlua.now() < finish do
        assert(#assert(file:read_at(4096, math.random(0, blocks - 1) * 4096)) == 4096)
        count = count + 1
      end
    end)
  end
end)
print(math.floor(count / seconds))
