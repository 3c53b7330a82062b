-- The module `evlua.sync`: what evlua.sync.native has, and what is built of it.
local bad_type = require "evlua.bad_type"
local sync = require "evlua.sync.native"
package.loaded["evlua.sync.native"] = nil  -- errors shall name functions as users know them
local mutex, held, pack, unpack = sync.mutex, sync.held, table.pack, table.unpack
sync.held = nil

function sync.once(...)
  local f = ...
  if type(f) ~= "function" then bad_type(1, "function", 1, ...) end
  local results
  local running = mutex()
  local function run(...)
    if not results then results = pack(f(...)) end
    return true
  end
  return function(...)
    if not results then
      if held(running) then error("the function of sync.once calls itself, before it has returned anything", 2) end
      local done, message, code = running:with(run, ...)
      if not done then return nil, message, code end
    end
    return unpack(results, 1, results.n)
  end
end

return sync
