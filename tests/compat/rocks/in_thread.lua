-- Runs the rock named by the first argument here and, at the same time, in two other Lua states.
local thread = require "evlua.thread"
local path = (...)
local function load_it(from) return dofile(from) end
local others = {thread.spawn(load_it, path), thread.spawn(load_it, path)}
local mine = dofile(path)
print(mine, (others[1]:join()), (others[2]:join()))
others_ended = true
assert(dofile(path) == mine)  -- once more, with its modules loaded, and no other state at work
