"""What needs limits or networks of its own, and gets them from a user namespace."""
import os
import shutil
import subprocess
import tempfile

from support import EVLUA, LIMIT, check, main

FOLDER = tempfile.mkdtemp()

WATCH = """
local evlua, fs = require "evlua", require "evlua.fs"
local top = arg[1]
local none, message, code = fs.watch(top, {recursive = true})
assert(none == nil and code == "ENOSPC", code)
assert(message:find("fs.inotify.max_user_watches", 1, true) and message:find(top, 1, true), message)
-- A part of it fits, until a folder appears. (The kernel gives the refused one's watches back when its close ends.)
local watcher
local latest = evlua.now() + 20
repeat
  watcher, message = fs.watch(top .. "/1", {recursive = true})
until watcher or not evlua.sleep(0.01) or evlua.now() > latest
assert(watcher, message)
for i = 1, 10 do assert(fs.mkdir(top .. "/1/new" .. i)) end
local told, refused = 0, 0
repeat
  local event
  event, message, code = watcher:read{timeout = 20}
  if event then
    told = told + 1
  else
    assert(code == "ENOSPC" and message:find("fs.inotify.max_user_watches", 1, true), message)
    refused = refused + 1
  end
until told == 10
while watcher:read{timeout = 0.01} do end
assert(refused >= 1)
-- The others are watched as before.
assert(fs.write(top .. "/1/file", ""))
local event = assert(watcher:read{timeout = 20})
assert(event.type == "created" and event.name == "file")
"""

MULTICAST = """
local evlua, net, sync = require "evlua", require "evlua.net", require "evlua.sync"
local group, interface = "ff05::1:77", "near"
local one = assert(net.datagram("[::]:0", {reuse_address = true}))
local two = assert(net.datagram("[::]:" .. one:port(), {reuse_address = true}))
local where = "[" .. group .. "]:" .. one:port()
assert(one:join(group, interface) and two:join(group, interface))
local sender = assert(net.datagram("[::]:0", {multicast_interface = interface, multicast_ttl = 1}))
local heard = {[one] = {}, [two] = {}}

-- Sends until each of the sockets has received it: the interface is only just getting ready.
local function deliver(text, ...)
  local latest = evlua.now() + 20
  for _, socket in ipairs{...} do
    while not heard[socket][text] do
      assert(evlua.now() < latest, text)
      sender:send(text, where)
      if sync.select({socket, 0.1}) == 1 then
        local data, from = assert(socket:receive{timeout = 20})
        assert(from == "[fd00::1]:" .. sender:port(), from)
        heard[socket][data] = true
      end
    end
  end
end

deliver("to all", one, two)
-- When all have left, nobody hears. (While one has not, all do that listen on the port.)
assert(one:leave(group, interface) and select(3, one:leave(group, interface)) == "EADDRNOTAVAIL")
deliver("to some", two)
assert(two:leave(group, interface) and sender:send("to nobody", where))
assert(two:join(group, interface))
deliver("to the other", two)
assert(not heard[two]["to nobody"])
-- Nor does this machine hear itself if it is not to.
assert(sender:set{multicast_loop = false} and sender:send("to others", where) and sender:set{multicast_loop = true})
deliver("the end", two)
assert(not heard[two]["to others"])
"""


def inside(setup, *flags):
    """The command that runs what follows in a namespace that `setup` has prepared; None where there can be none."""
    command = ["unshare", "--user", "--map-root-user", *flags, "sh", "-c", setup + ' && exec "$0" "$@"']
    try:
        ready = subprocess.run([*command, "true"], timeout=LIMIT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except FileNotFoundError:
        return None
    if ready.returncode != 0:
        print("SKIPPED:", ready.stderr.decode(errors="replace").strip(), flush=True)
        return None
    return command


def run(command, script, *arguments):
    path = os.path.join(FOLDER, "script.lua")
    with open(path, "w") as out:
        out.write(script)
    ended = subprocess.run([*command, EVLUA, path, *arguments], timeout=LIMIT, capture_output=True, text=True)
    check(ended.returncode == 0, ended.stderr)


def test_a_lack_of_watches_is_told():
    command = inside("echo 8 > /proc/sys/user/max_inotify_watches")
    if command is None:
        return
    top = os.path.join(FOLDER, "top")
    for at in range(20):
        os.makedirs(os.path.join(top, str(at), "below"))
    run(command, WATCH, top)


def test_ipv6_multicasts():
    if not os.path.exists("/proc/net/if_inet6"):
        print("SKIPPED: the kernel has no IPv6", flush=True)
        return
    # The loopback interface delivers none. This pair leads nowhere else.
    command = inside("ip link add near type veth peer name far && ip link set near up && ip link set far up"
                     " && ip -6 address add fd00::1/64 dev near nodad", "--net")
    if command is not None:
        run(command, MULTICAST)


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
