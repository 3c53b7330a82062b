-- JSON and event streams, as methods of responses.
local native = ...
local methods = native.methods
local json = require "evlua.json"

local send_json = methods.json  -- that of C sends a text

function methods:json(value, options)
  local text, message = json.encode(value, options)
  if not text then error("json: " .. message, 2) end
  return send_json(self, text)
end

local Events = {__name = "evlua.events"}
Events.__index = Events

local function one_line(fields, name)
  local value = fields[name]
  if value == nil then return nil end
  value = tostring(value)
  if value:find("[\r\n%z]") then error(("event field '%s': a line break in it"):format(name), 3) end
  return name .. ": " .. value .. "\n"
end

-- send(data) or send{data=, event=, id=, retry=}
function Events:send(fields)
  if type(fields) ~= "table" then fields = {data = fields} end
  local lines = {}
  for _, name in ipairs {"event", "id", "retry"} do lines[#lines + 1] = one_line(fields, name) end
  if fields.data ~= nil then
    local data = tostring(fields.data):gsub("\r\n?", "\n")
    for line in (data .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = "data: " .. line .. "\n" end
  end
  lines[#lines + 1] = "\n"
  return self.response:write(table.concat(lines))
end

-- A line that clients ignore; it keeps the connection from being taken for dead.
function Events:ping()
  return self.response:write(": \n\n")
end

function Events:close()
  return self.response:finish()
end

function methods:sse()
  self:header("Content-Type", "text/event-stream"):header("Cache-Control", "no-store"):header("X-Accel-Buffering", "no")
  local ok, message, code = self:write("")
  if not ok then return nil, message, code end
  return setmetatable({response = self}, Events)
end

native.register(Events)
