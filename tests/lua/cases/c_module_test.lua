-- A module in C, linked to no Lua of its own, finds Lua's API in the program.
local probe = require "probe"

assert(probe.buffered("a") == "a-7")
assert(probe.buffered("b", 12) == "b-12")
assert(probe.rare() == 11)

it("yields from C with a continuation, in a coroutine and through pcall", function()
  local generator = coroutine.wrap(function(...) return pcall(probe.yielding, ...) end)
  local first, second = generator("x", "y")
  assert(first == "x" and second == "y")
  local ok, resumed, context = generator()
  assert(ok and resumed and context == 42)
end)

it("has a coroutine whose body is a C function", function()
  local thread = coroutine.create(probe.yielding)
  assert(select(2, coroutine.resume(thread, 5)) == 5)
  assert(select("#", coroutine.resume(thread)) == 3)
  assert(coroutine.status(thread) == "dead")
end)
