"""Descriptors over Unix-domain streams, from and to a program that is not evlua."""
import os
import shutil
import socket
import subprocess
import tempfile

from support import EVLUA, LIMIT, check, main

FOLDER = tempfile.mkdtemp()

# Takes what it gets for each line of the control socket, and tells what it was and how many descriptors are open.
RECEIVER = """
local evlua, fs, net = require "evlua", require "evlua.fs", require "evlua.net"
local stream = assert(net.connect("unix:" .. arg[1], {timeout = 20}))
local function count() return #assert(fs.list("/proc/self/fd")) end
local usual = count()
for _ = 1, tonumber(arg[2]) do
  local handle, data, code = stream:receive_handle{timeout = 20}
  if handle then
    print(tostring(handle):match("^%a+"), data)
    handle:close()
  else
    print(code, code ~= "EOF" and stream:read() or "")
  end
  local latest = evlua.now() + 20
  while count() ~= usual and evlua.now() < latest do evlua.sleep(0.001) end
  print(count() - usual)
  io.stdout:flush()
  stream:write("next")
end
"""

SENDER = """
local fs, net = require "evlua.fs", require "evlua.net"
local stream = assert(net.connect("unix:" .. arg[1], {timeout = 20}))
local listener = assert(net.listen("127.0.0.1:0"))
assert(stream:send_handle(listener, "listener at " .. listener:address()))
listener:close()
assert(stream:read("a", {timeout = 20}) == "")
"""


def run(script, *arguments):
    """The connection to the program, and the program."""
    path = os.path.join(FOLDER, "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(LIMIT)
        file = os.path.join(FOLDER, "script.lua")
        with open(file, "w") as out:
            out.write(script)
        program = subprocess.Popen([EVLUA, file, path, *arguments], stdout=subprocess.PIPE, text=True)
        peer, _ = listener.accept()
    os.unlink(path)
    peer.settimeout(LIMIT)
    return peer, program


def test_what_comes_too_much_or_is_of_no_use_is_closed():
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    packets, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    steps = [
        (b"one", files[:1], "file\tone"),
        (b"two", files[:2], "EMSGSIZE\ttwo"),
        (b"twenty", files, "EMSGSIZE\ttwenty"),  # more than there is room for: MSG_CTRUNC
        (b"packets", [packets.fileno()], "EPROTONOSUPPORT\tpackets"),
        (b"folder", [os.open("/", os.O_RDONLY)], "EPROTONOSUPPORT\tfolder"),
        (b"stream", [socket.socketpair()[0].detach()], "unix"),
        (b"again", files[:1], "file\tagain"),
    ]
    peer, program = run(RECEIVER, str(len(steps)))
    for data, descriptors, _ in steps:
        socket.send_fds(peer, [data], descriptors)
        check(peer.recv(4) == b"next", data)
    lines = program.communicate(timeout=LIMIT)[0].splitlines()
    for at, (data, _, expected) in enumerate(steps):
        check(lines[2 * at].startswith(expected), lines)
        check(lines[2 * at + 1] == "0", f"{data}: {lines}")
    packets.close()
    other.close()


def test_others_can_take_what_evlua_sends():
    peer, program = run(SENDER)
    data, descriptors, flags, _ = socket.recv_fds(peer, 4096, 4)
    check(len(descriptors) == 1 and flags & socket.MSG_CTRUNC == 0, descriptors)
    host, port = data.decode().removeprefix("listener at ").split(":")
    listener = socket.socket(fileno=descriptors[0])
    client = socket.create_connection((host, int(port)), LIMIT)
    listener.settimeout(LIMIT)
    accepted, _ = listener.accept()
    client.sendall(b"hello")
    check(accepted.recv(5) == b"hello", "the listener works")
    peer.close()
    program.communicate(timeout=LIMIT)
    check(program.returncode == 0, "the sender is content")


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
