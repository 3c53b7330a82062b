-- The module `evlua.compat.socket`: opts for ours, and is LuaSocket's `socket` over it.
require("evlua.compat").use("socket")
return require "socket"
