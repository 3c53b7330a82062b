-- Chat over a Unix socket:  evlua examples/chat_server.lua [/tmp/chat.sock]
-- Connect with: socat - UNIX-CONNECT:/tmp/chat.sock   The first line is the nick; /quit leaves.
local evlua, net = require "evlua", require "evlua.net"

local path = arg[1] or "/tmp/chat.sock"
local listener = assert(net.listen("unix:" .. path))
local members = {}  -- nick -> lines waiting to be written

local function say(text, except)
  for nick, member in pairs(members) do
    if nick ~= except then member.lines[#member.lines + 1] = text .. "\n" end
  end
end

-- One task writes what is for a member, so that a slow one delays nobody; too slow, and it is dropped.
local function deliver(member)
  while member.open do
    if #member.lines > 1000 then break end
    local text = table.concat(member.lines)
    member.lines = {}
    if text == "" then
      evlua.sleep(0.005)
    elseif not member.stream:write(text, {timeout = 5}) then
      break
    end
  end
  member.stream:close()
end

local function serve(stream)
  stream:write("nick?\n")
  local nick = stream:read("l", {timeout = 60, limit = 64})
  if not nick or nick == "" or members[nick] then
    stream:write("that nick cannot be had\n")
    return stream:close()
  end
  local member = {stream = stream, lines = {}, open = true}
  members[nick] = member
  evlua.spawn(deliver, member)
  say("* " .. nick .. " joined")
  for line in stream:lines() do
    if line == "/quit" then break end
    say("<" .. nick .. "> " .. line, nick)
  end
  members[nick] = nil
  member.open = false
  say("* " .. nick .. " left")
end

print("listening on " .. listener:address())
io.stdout:flush()
for stream in listener:accept_each() do evlua.spawn(serve, stream) end
