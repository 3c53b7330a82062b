---@meta evlua.compat

---Other libraries' interfaces over ours, for those who opt for them.
---@class evlua.compat
local compat = {}

---From now on `require` finds ours in the place of that library: "socket" is LuaSocket.
---@param name "socket"
function compat.use(name) end

return compat
