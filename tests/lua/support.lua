-- What cases and scripts share. A case gets it by dofile((...):gsub("[^/]*$", "../support.lua")), a script with arg[0].
local evlua, net = require "evlua", require "evlua.net"

local LIMIT = 30  -- seconds; nothing here takes so long

local support = {}

-- f(...) raises an error with these words, which is returned.
function support.raises(words, f, ...)
  local ok, message = pcall(f, ...)
  assert(not ok, "no error, but one with '" .. words .. "' expected")
  assert(tostring(message):find(words, 1, true), message)
  return message
end

-- The results of what has failed: with this code, and these words (if any) in the message, which is returned.
function support.fails(code, words, value, message, got)
  assert(not value and got == code, ("%s expected, got %s %s %s"):format(code, value, message, got))
  assert(message:find(words or "", 1, true), message)
  return message
end

function support.code_of(...) return (select(3, ...)) end

-- Until it holds: for what nothing tells of.
function support.eventually(condition, what)
  local deadline = evlua.now() + LIMIT
  while not condition() do
    assert(evlua.now() < deadline, what or "it does not come true")
    evlua.sleep(0.001)
  end
end

-- The task, once its wait has begun.
function support.waits(task)
  local deadline = evlua.now() + LIMIT
  while task:status() == "running" do
    assert(evlua.now() < deadline, "it does not wait")
    evlua.yield()
  end
  assert(task:status() == "waiting", task:status())
  return task
end

-- Two streams that are connected: at this address, or over TCP; by a listener that is there, or by one of their own.
function support.pair(address, given)
  local listener = given or assert(net.listen(address or "127.0.0.1:0"))
  local acceptor = evlua.spawn(function() return assert(listener:accept{timeout = LIMIT}) end)
  local port = listener:port()
  local client = port ~= 0 and assert(net.connect("127.0.0.1", port)) or assert(net.connect(address))
  local accepted = acceptor:join()
  if not given then listener:close() end
  return client, accepted
end

return support
