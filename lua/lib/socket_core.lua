-- LuaSocket's socket.core over ours; its own Lua code is built upon that. A call that waits suspends its task only.
local bad_type = require "evlua.bad_type"
local native = require "evlua.compat.native"
local tcp = require "evlua.compat.tcp"
local udp = require "evlua.compat.udp"
local names = require "evlua.compat.names"
local object = require "evlua.compat.object"
local evlua = require "evlua"

local core = {
  _VERSION = "LuaSocket 3.0.0",
  _SETSIZE = math.maxinteger,  -- select takes any descriptor
  _SOCKETINVALID = -1,
  dns = names.dns,
  gettime = evlua.time,
}
for _, part in ipairs{tcp, udp} do
  for name, value in pairs(part) do core[name] = value end
end
core.add, core.send_to = nil, nil  -- not for use

function core.__unload() end

function core.sleep(...)
  local number = tonumber((...))
  if not number then bad_type(1, "number", 1, ...) end
  evlua.sleep(math.max(0, number))
end

-- One less than none is the number itself, and what follows it. (LuaSocket gives out more, of what lies below these.)
function core.skip(count, ...)
  local whole = object.check_whole(count, 1, "skip")
  if whole < 0 then return count, ... end
  return select(math.min(whole, select("#", ...)) + 1, ...)
end

-- -- exceptions ----------------------------------------------------------------------------------------------------

local exception = {__tostring = function(self) return tostring(self[1]) end}

function core.newtry(finalizer)
  return function(...)
    if (...) then return ... end
    if finalizer then finalizer() end
    error(setmetatable({(select(2, ...))}, exception), 0)
  end
end

local function unwrap(done, ...)
  if done then return ... end
  local value = ...
  if getmetatable(value) == exception then return nil, value[1] end
  error(value, 0)
end

function core.protect(f)
  return function(...) return unwrap(pcall(f, ...)) end
end

-- -- select --------------------------------------------------------------------------------------------------------

local kReadable, kWritable = 1, 2

local function descriptor_of(socket)
  local getfd = socket.getfd
  local fd = getfd and tonumber((getfd(socket)))
  return fd and fd >= 0 and math.tointeger(fd) or nil
end

-- Takes note in `bits` of what is asked for of each descriptor; `owners` tells whose it is.
local function collect(list, position, bit, bits, owners)
  if list == nil then return end
  if type(list) ~= "table" then
    error(("bad argument #%d to 'select' (table expected, got %s)"):format(position, type(list)), 3)
  end
  local i = 1
  while list[i] ~= nil do
    local fd = descriptor_of(list[i])
    if fd then
      bits[fd] = (bits[fd] or 0) | bit
      owners[fd] = list[i]
    end
    i = i + 1
  end
end

-- Puts those into `ready` that have something in their buffers, and asks no more whether they are readable.
local function take_dirty(list, bits, ready)
  for _, socket in ipairs(list or {}) do
    local fd = descriptor_of(socket)
    if fd and socket.dirty and socket:dirty() then
      ready[#ready + 1] = socket
      bits[fd] = bits[fd] & ~kReadable
    end
  end
  return #ready > 0
end

local function associate(list)
  for i = 1, #list do list[list[i]] = i + 0.0 end
end

-- Asks which are ready, and waits until some are: their number, 0 when the time is over.
local function wait_for(asked, wanted, seconds)
  local until_when = seconds and evlua.now() + seconds
  while true do
    local count, message = native.select(asked, false)
    if not count then error("select failed: " .. message, 3) end
    if count > 0 or seconds == 0 then return count end
    for i = 2, #asked, 2 do asked[i] = wanted[i] end
    local left = until_when and math.max(until_when - evlua.now(), 0)
    local ready, failure, code = native.select(asked, true, left)
    if code == "ECANCELED" or left == 0 then return 0 end
    if not ready and code ~= "ETIMEDOUT" then error("select failed: " .. failure, 3) end
  end
end

function core.select(receivers, senders, seconds)
  if seconds ~= nil then
    local number = tonumber(seconds)
    if not number then
      error(("bad argument #3 to 'select' (number expected, got %s)"):format(type(seconds)), 2)
    end
    seconds = not (number < 0) and math.max(0, number) or nil
  end
  local bits, owners, readable, writable = {}, {}, {}, {}
  collect(receivers, 1, kReadable, bits, owners)
  collect(senders, 2, kWritable, bits, owners)
  local dirty = take_dirty(receivers, bits, readable)
  local order, asked = {}, {}
  for fd in pairs(bits) do order[#order + 1] = fd end
  table.sort(order)
  for i, fd in ipairs(order) do
    -- Of ours the socket itself: it may be closed meanwhile, and another one get its number.
    asked[2 * i - 1], asked[2 * i] = native.state(owners[fd]) and owners[fd] or fd, bits[fd]
  end
  local count = wait_for(asked, table.move(asked, 1, #asked, 1, {}), dirty and 0 or seconds)
  if count == 0 and not dirty then return readable, writable, "timeout" end
  for i, fd in ipairs(order) do
    if count > 0 and asked[2 * i] & kReadable ~= 0 then readable[#readable + 1] = owners[fd] end
    if count > 0 and asked[2 * i] & kWritable ~= 0 then writable[#writable + 1] = owners[fd] end
  end
  associate(readable)
  associate(writable)
  return readable, writable
end

return core
