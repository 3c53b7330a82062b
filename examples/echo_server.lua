-- TCP echo server:  evlua examples/echo_server.lua [ADDRESS:PORT]
local evlua, net = require "evlua", require "evlua.net"

local listener = assert(net.listen(arg[1] or "127.0.0.1:7000"))
print("listening on " .. listener:address())
io.stdout:flush()

for peer in listener:accept_each() do
  evlua.spawn(function()
    for chunk in peer:chunks() do
      if not peer:write(chunk) then break end
    end
    peer:close()
  end)
end
