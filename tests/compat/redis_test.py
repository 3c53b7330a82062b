#!/usr/bin/env python3
"""Debian's lua-redis, unchanged, over evlua.compat.socket, against a redis-server of our own: a hundred at once."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from support import EVLUA, LIMIT, check, main, run, serve, temporary  # noqa: E402

SCRIPTS = HERE / "scripts"
REDIS = shutil.which("redis-server")
FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, "s")

APP = temporary("""
local redis = require "redis"
return function(req, res)
  local client = assert(redis.connect("127.0.0.1", tonumber(req:query("redis"))))
  if req.path == "/pop" then
    res:text(client:blpop("requests", 60)[2])
  else
    for i = 1, 40 do client:rpush("requests", i) end
    res:text(client:info().clients.blocked_clients)
  end
  client:quit()
end
""")


def ask(port, *words):
    """A command in redis' own form, to its answer's first line."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(" ".join(words).encode() + b"\r\n")
        return s.recv(65536).decode()


def start():
    """A server on a port that was free a moment ago: (process, port)."""
    for _ in range(20):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        process = subprocess.Popen(
            [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", PATH, "--save", "", "--appendonly",
             "no", "--dir", FOLDER, "--daemonize", "no"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if ask(port, "PING").startswith("+PONG"):
                    return process, port
            except OSError:
                time.sleep(0.01)  # between two looks
        process.kill()
        process.wait()
    raise AssertionError("redis-server does not start")


def blocked_clients(port):
    found = [line for line in ask(port, "INFO", "clients").splitlines() if line.startswith("blocked_clients:")]
    return int(found[0].split(":")[1]) if found else 0


def test_clients():
    # One worker: had a client blocked the thread, nothing else would have gone on.
    got = run("--compat", "socket", "--workers", "1", str(SCRIPTS / "redis_clients.lua"), str(PORT), PATH,
              timeout=5 * LIMIT)
    check(got.returncode == 0, got)
    lines = got.stdout.splitlines()
    check(lines[0].startswith("client\t/usr/share/lua/"), lines)
    check(lines[1:] == ["counted\t1000", "blocked\t100\ttrue", "popped\t100\t100", "client's limit\ttrue",
                        "evlua.timeout\tfalse\tconnection error: timed out",
                        "heard\tsubscribe 1, message first, message stop"], got)


def test_threads():
    got = run("--compat=socket", "--workers", "2", str(SCRIPTS / "redis_thread.lua"), str(PORT), timeout=2 * LIMIT)
    check(got.returncode == 0 and got.stdout == "sum\t210\n", got)


def test_opted_in_the_script():
    code = """require("evlua.compat").use("socket")
      local redis = require "redis"
      print(redis.connect("127.0.0.1", tonumber(arg[1])):ping(), tostring(require("socket").tcp()):match("^[^:]+"))"""
    path = temporary(code)
    try:
        got = run(path, str(PORT))
    finally:
        os.remove(path)
    check(got.stdout == "true\ttcp{master}\n", got)


def test_server():
    """Forty requests in BLPOP on one worker; the one that pushes is answered meanwhile."""
    program, port = serve(APP, "--workers", "1", "--compat", "socket")
    answers = []

    def pop():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/pop?redis={PORT}", timeout=LIMIT) as answer:
            answers.append(int(answer.read()))
    with program:
        threads = [threading.Thread(target=pop) for _ in range(40)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + LIMIT
        while blocked_clients(PORT) < 40:
            check(time.monotonic() < deadline, "they do not come")
            time.sleep(0.01)  # between two looks
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/push?redis={PORT}", timeout=LIMIT) as answer:
            answer.read()
        for thread in threads:
            thread.join(LIMIT)
        check(sorted(answers) == list(range(1, 41)), answers)
        check(program.stop() == 0, program.text)


if REDIS is None:
    print("redis-server is not installed")
    sys.exit(77)
SERVER, PORT = start()
try:
    main(globals())
finally:
    SERVER.terminate()
    SERVER.wait(LIMIT)
    shutil.rmtree(FOLDER)
    os.remove(APP)
