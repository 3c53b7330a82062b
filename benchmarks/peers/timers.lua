-- 10,000 tasks at once, each asleep until a moment of its own, ten times over: how late they are, in µs, p50 and p99.
local evlua = require "evlua"
local COUNT, ROUNDS, ROUND = 10000, 10, 0.5
local late, begin = {}, evlua.now() + 0.2
evlua.scope(function(scope)
  for i = 1, COUNT do
    scope:spawn(function()
      for round = 1, ROUNDS do
        local due = begin + (round + i / COUNT) * ROUND
        evlua.sleep(due - evlua.now())
        late[#late + 1] = evlua.now() - due
      end
    end)
  end
end)
table.sort(late)
assert(#late == COUNT * ROUNDS and late[1] > -0.001)
print(("%.0f %.0f"):format(late[#late // 2] * 1e6, late[#late * 99 // 100] * 1e6))
