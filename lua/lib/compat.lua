-- The module `evlua.compat`: other libraries' interfaces over ours, for those who opt for them.
local bad_argument = require "evlua.bad_argument"
local names = require("evlua.compat.native").names()
package.loaded["evlua.compat.native"] = nil  -- it is not for use

local compat = {}

-- The part of LuaSocket that does the system's work is ours. Its own Lua code does the rest: it loads as it would.
local parts = {["socket.core"] = "evlua.compat.core", ["socket.unix"] = "evlua.compat.unix"}
local families = {socket = true, mime = true, ltn12 = true}
local missing = "\n\tLuaSocket's own files, which `socket` of evlua.compat needs:"
  .. " install Debian's lua-socket, or the rock luasocket"

local function find_missing(name)
  if families[name:match("^[^.]+")] and not package.searchpath("socket", package.path) then return missing end
end

local used = {}

local function use_socket()
  for part, ours in pairs(parts) do
    if package.loaded[part] then
      error(("evlua.compat: '%s' is loaded already; opt for ours before something requires it"):format(part), 3)
    end
    package.preload[part] = function() return require(ours) end
  end
  table.insert(package.searchers, find_missing)
end

local opt_for = {socket = use_socket}

function compat.use(name)
  if not opt_for[name] then
    local known = table.concat(names, ", ")
    bad_argument(1, ("unknown name '%s'; known: %s"):format(tostring(name), known))
  end
  if used[name] then return end
  opt_for[name]()
  used[name] = true
end

return compat
