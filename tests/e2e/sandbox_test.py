"""Under system-call filters: our profile for containers allows all that the programs do, and where a filter forbids
io_uring, as Docker's own does, the server says so and serves with libev."""
import ctypes
import errno
import json
import os
import tempfile

import support
from support import EVLUA, EVLUASERVER, LIMIT, SOURCE, Program, check, exchange, main

BACKEND = os.environ["EVLUA_BACKEND"]
PROFILE = os.path.join(SOURCE, "packaging", "container", "seccomp.json")
ALLOW, MASKED_EQ = 0x7FFF0000, 7
CLONE_NEWNET = 0x40000000

# Uses what programs use: files, names, sockets, threads, compression's helpers.
APP = """
local evlua, fs, net, thread = require "evlua", require "evlua.fs", require "evlua.net", require "evlua.thread"
return function(req, res)
  local name = assert(os.tmpname())
  assert(fs.write(name, "text", {atomic = true}))
  assert(fs.read(name) == "text")
  assert(fs.remove(name))
  local peer = assert(net.connect("localhost", tonumber(req:query("port"))))
  peer:close()
  local sum = assert(thread.run(function(a, b) return a + b end, 1, 2))
  evlua.sleep(0.001)
  res:text("sum " .. sum)
end
"""


class Argument(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


LIBRARY = ctypes.CDLL("libseccomp.so.2", use_errno=True)
LIBRARY.seccomp_init.restype = ctypes.c_void_p
LIBC = ctypes.CDLL(None, use_errno=True)


def action_of(rule, default):
    if rule["action"] == "SCMP_ACT_ALLOW":
        return ALLOW
    assert rule["action"] == "SCMP_ACT_ERRNO"
    return 0x50000 | rule.get("errnoRet", default)


def load(profile):
    """What a container's runtime does with a profile; for this process and for good."""
    default = profile["defaultErrnoRet"]
    context = ctypes.c_void_p(LIBRARY.seccomp_init(0x50000 | default))
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            number = LIBRARY.seccomp_syscall_resolve_name(name.encode())
            if number < 0:
                continue  # newer than the library: runtimes leave it out as well
            arguments = rule.get("args", [])
            assert all(a["op"] == "SCMP_CMP_MASKED_EQ" for a in arguments)
            array = (Argument * len(arguments))(
                *[Argument(a["index"], MASKED_EQ, a["value"], a["valueTwo"]) for a in arguments])
            assert LIBRARY.seccomp_rule_add_array(context, action_of(rule, default), number, len(arguments), array) == 0
    assert LIBRARY.seccomp_load(context) == 0


def our_profile():
    with open(PROFILE, encoding="utf-8") as f:
        return json.load(f)


def without(prefix):
    profile = our_profile()
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if not name.startswith(prefix)]
    return profile


def in_sandbox(profile, *command, watch="stderr"):
    # LeakSanitizer would trace the process.
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    return Program(*command, watch=watch, setup=lambda: load(profile), env=dict(os.environ, ASAN_OPTIONS=options))


def app():
    return support.temporary(APP)


def ask(port, target):
    return exchange(port, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())


def test_profile():
    """Everything works under it, on this backend, and no line says that anything was refused."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "file.txt"), "w", encoding="utf-8") as f:
            f.write("of the file\n" * 1000)
        with in_sandbox(our_profile(), EVLUASERVER, app(), "--listen", "127.0.0.1:0", "--workers", "2", "--backend",
                        BACKEND, "--static", folder + "=/files", "--tls-auto-dev", "--listen",
                        "http://127.0.0.1:0") as server:
            port = int(server.word_after(" http://127.0.0.1:"))
            answer = ask(port, f"/?port={port}")
            check(answer.endswith(b"\r\n\r\nsum 3"), answer, server.text)
            answer = ask(port, "/files/file.txt")
            check(answer.endswith(b"of the file\n" * 1000), answer[:300], server.text)
            check(server.stop() == 0, server.text)
            check("libev:" not in server.text and "traceback" not in server.text, server.text)


def test_profile_forbids():
    """It is a filter: no namespaces, no tracing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        load(our_profile())
        results = []
        for call in (lambda: LIBC.unshare(CLONE_NEWNET), lambda: LIBC.ptrace(0, 0, 0, 0)):
            results.append((call(), ctypes.get_errno()))
        os.write(write, json.dumps(results).encode())
        os._exit(0)
    os.waitpid(child, 0)
    check(json.loads(os.read(read, 4096)) == [[-1, errno.EPERM]] * 2, "what the filter forbids")
    os.close(read)
    os.close(write)


def test_falls_back():
    with in_sandbox(without("io_uring_"), EVLUASERVER, app(), "--listen", "127.0.0.1:0", "--backend", "auto") as server:
        port = int(server.word_after("http://127.0.0.1:"))
        answer = ask(port, f"/?port={port}")
        check(answer.endswith(b"\r\n\r\nsum 3"), answer, server.text)
        check(server.stop() == 0, server.text)
        check("using libev: " in server.text and "seccomp" in server.text, server.text)


def test_demanded():
    command = (EVLUASERVER, app(), "--listen", "127.0.0.1:0", "--backend", "io_uring")
    with in_sandbox(without("io_uring_"), *command) as server:
        server.wait_for("seccomp")
        server.process.wait(LIMIT)
        check(server.process.returncode == 2, server.process.returncode, server.text)


def test_copies_by_hand():
    """Where the kernel must not copy files, holes stay holes all the same."""
    tests = os.path.join(SOURCE, "tests", "lua", "cases", "fs_holes_test.lua")
    command = (EVLUA, "test", "--backend", BACKEND, tests)
    with in_sandbox(without("copy_file_range"), *command, watch="both") as program:
        program.process.wait(LIMIT)
        check(program.stop() == 0, program.text)


main(globals())
