-- Streams of LuaSocket over ours: receive with its patterns, send, accept, connect; for TCP and Unix-domain sockets.
local native = require "evlua.compat.native"
local object = require "evlua.compat.object"
local evlua = require "evlua"
local find, gsub, sub, concat = string.find, string.gsub, string.sub, table.concat
local await, now = object.await, evlua.now

local stream = {}

-- -- receiving -----------------------------------------------------------------------------------------------------

local kChunk, kChunkMax = 8192, 65536
-- A peer that sends faster than we read would otherwise keep the others waiting.
local kRounds = 16

-- Puts more into the empty buffer: true, or nil and why not.
local function fill(self, state, size, call)
  while true do
    local data, message = native.receive(self, size)
    if data then
      state.buffer, state.at = data, 1
      state.received = state.received + #data
      call.rounds = call.rounds + 1
      if call.rounds % kRounds == 0 then evlua.yield() end
      return true
    end
    if message ~= "again" then return nil, message end
    local ready, failure = await(self, state, false, call.start)
    if not ready then return nil, failure end
  end
end

-- Takes up to `size` bytes of what is in the buffer.
local function take(state, size)
  local data, at = state.buffer, state.at
  if at == 1 and size >= #data then
    state.buffer = ""
    return data
  end
  state.at = at + size
  local taken = sub(data, at, at + size - 1)
  if state.at > #data then state.buffer, state.at = "", 1 end
  return taken
end

local function receive_line(self, state, parts, call)
  while true do
    if state.at > #state.buffer then
      local filled, message = fill(self, state, kChunk, call)
      if not filled then return message end
    end
    local last = find(state.buffer, "\n", state.at, true)
    local piece = take(state, (last or #state.buffer) - state.at + 1)
    if last then piece = sub(piece, 1, -2) end
    if find(piece, "\r", 1, true) then piece = gsub(piece, "\r", "") end
    parts[#parts + 1] = piece
    if last then return nil end
  end
end

local function receive_all(self, state, parts, call)
  local total = 0
  while true do
    if state.at > #state.buffer then
      local filled, message = fill(self, state, kChunkMax, call)
      if not filled then return (message ~= "closed" or total == 0) and message or nil end
    end
    local piece = take(state, #state.buffer)
    total = total + #piece
    parts[#parts + 1] = piece
  end
end

-- Asks the socket even when nothing is wanted: that is how programs learn whether the peer is still there.
local function receive_bytes(self, state, parts, call, wanted)
  repeat
    if state.at > #state.buffer then
      local filled, message = fill(self, state, math.max(kChunk, math.min(wanted, kChunkMax)), call)
      if not filled then return message end
    end
    local piece = take(state, math.min(wanted, #state.buffer - state.at + 1))
    wanted = wanted - #piece
    parts[#parts + 1] = piece
  until wanted <= 0
end

local function receive(self, state, pattern, prefix)
  prefix = prefix == nil and "" or object.check_string(prefix, 3, "receive")
  local parts = {prefix}
  local call = {start = now(), rounds = 0}
  local message
  local size = tonumber(pattern)
  if size then
    if size < 0 or size ~= size then object.bad_argument(2, "receive", "invalid receive pattern") end
    if size < math.huge then size = math.floor(size) end
    if prefix == "" or size > #prefix then message = receive_bytes(self, state, parts, call, size - #prefix) end
  else
    pattern = pattern == nil and "*l" or object.check_string(pattern, 2, "receive")
    local letter = pattern:match("^%*?([la])")
    if letter == "l" then
      message = receive_line(self, state, parts, call)
    elseif letter == "a" then
      message = receive_all(self, state, parts, call)
    else
      object.bad_argument(2, "receive", "invalid receive pattern")
    end
  end
  if message then return nil, message, concat(parts) end
  return concat(parts), nil, nil
end

-- -- sending -------------------------------------------------------------------------------------------------------

local function send(self, state, data, first, last)
  data = object.check_string(data, 2, "send")
  first = first == nil and 1 or object.check_long(first, 3, "send")
  last = last == nil and -1 or object.check_long(last, 4, "send")
  if first < 0 then first = #data + first + 1 end
  if last < 0 then last = #data + last + 1 end
  first, last = math.max(first, 1), math.min(last, #data)
  local at, start, rounds = first, now(), 0
  while at <= last do
    local sent, message = native.send(self, data, at, last)
    if sent then
      at = at + sent
      state.sent = state.sent + sent
      rounds = rounds + 1
      if rounds % kRounds == 0 then evlua.yield() end
    else
      if message == "again" then
        local ready
        ready, message = await(self, state, true, start)
        if ready then message = nil end
      end
      if message then return nil, message, at - 1.0 end
    end
  end
  return at - 1.0, nil, nil
end

-- -- connections ---------------------------------------------------------------------------------------------------

-- Connects to a numeric address or a path: true, or nil and why not.
function stream.connect(self, state, ...)
  local start = now()
  local done, message = native.connect(self, ...)
  if message ~= "again" then return done, message end
  done, message = await(self, state, true, start)
  if not done then return nil, message end
  return native.pending_error(self)
end

local function accept(self, state, kind)
  local start = now()
  local peer = object.new_state(kind, kind.client)
  while true do
    local socket, message = native.accept(self, kind.client.meta, peer)
    if socket then return socket, peer end
    if message == "again" then
      local ready
      ready, message = await(self, state, false, start)
      if ready then message = nil end
    end
    if message then return nil, message end
  end
end

local ways = {receive = 0, send = 1, both = 2}

-- Adds to `methods` what streams of that kind have in common. `adopt(peer, state)` gets to know each accepted one.
function stream.add(methods, kind, adopt)
  object.add_common(methods, kind)

  function methods:receive(pattern, prefix)
    return receive(self, object.check(self, kind, kind.client, "receive"), pattern, prefix)
  end
  function methods:send(data, first, last)
    return send(self, object.check(self, kind, kind.client, "send"), data, first, last)
  end
  function methods:accept()
    local state = object.check(self, kind, kind.server, "accept")
    local peer, found = accept(self, state, kind)
    if not peer then return nil, found end
    adopt(found, state)
    return peer
  end
  function methods:listen(backlog)
    local state = object.check(self, kind, kind.master, "listen")
    backlog = backlog == nil and 32 or object.check_int(backlog, 2, "listen")
    local done, message = native.listen(self, backlog)
    if not done then return nil, message end
    object.become(self, state, kind.server)
    return 1.0
  end
  function methods:shutdown(how)
    object.check(self, kind, kind.client, "shutdown")
    how = how == nil and "both" or object.check_string(how, 2, "shutdown")
    if not ways[how] then object.bad_argument(2, "shutdown", ("invalid option '%s'"):format(how)) end
    native.shut_down(self, ways[how])
    return 1.0
  end
  function methods:getstats()
    local state = object.check(self, kind, kind.client, "getstats")
    return state.received + 0.0, state.sent + 0.0, now() - state.born
  end
  function methods:setstats(received, sent, age)
    local state = object.check(self, kind, kind.client, "setstats")
    local function number(value, position, otherwise)
      return value == nil and otherwise or object.check_number(value, position, "setstats")
    end
    state.received, state.sent = number(received, 2, state.received), number(sent, 3, state.sent)
    if age ~= nil then state.born = now() - number(age, 4) end
    return 1.0
  end
end

return stream
