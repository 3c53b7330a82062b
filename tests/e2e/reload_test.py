"""The app is exchanged while requests go on: by SIGHUP, and with --watch by writing to its files."""
import os
import re
import signal
import socket
import tempfile
import threading
import time

import support
from support import LIMIT, THREAD_SANITIZER, check, main, run

APP = """
local evlua, fs = require "evlua", require "evlua.fs"
local version = require "version"
finalized = setmetatable({}, {__gc = function() evlua.spawn(print, "too late") end})  -- when the app is exchanged
local say = function(what) return function() io.stderr:write(what, " ", version, "\\n") end end
return {
  start_once = say "start_once", start = say "start", stop = say "stop", stop_once = say "stop_once",
  handle = function(req, res)
    if req.path == "/wait" then
      io.stderr:write("waiting\\n")
      while not fs.exists(req.query_string) do evlua.sleep(0.005) end
    elseif req.path == "/stream" then
      for i = 1, 1000000 do
        if not res:write("line\\n") then return end
        evlua.sleep(0.005)
      end
    end
    res:text(req.path == "/large" and ("x"):rep(8e6) or version)
  end,
}
"""

COUNTS = r"^Lua files: (\d+) compiled, (\d+) times loaded as compiled before$"

HANGS = {
    "waits": "require('evlua').sleep(1000)",
    "computes": "while true do end",
    "insists": "local evlua = require 'evlua' while true do pcall(evlua.sleep, 0.01) end",
    "leaves a task": """local evlua = require 'evlua'
                        evlua.spawn(function() while true do pcall(evlua.sleep, 0.01) end end)
                        error 'no'""",
}
if THREAD_SANITIZER:
    del HANGS["computes"]


def hanging(what):
    return f"""return {{
      start = function() io.stderr:write 'starting\\n' {HANGS[what]} end,
      handle = function(_, res) res:text 'never' end,
    }}"""


class App(support.App):
    def __init__(self, *options):
        super().__init__({"app.lua": APP, "version.lua": 'return "one"'}, *options)

    def compiled(self):
        """Ends the server; how often it has compiled a file, and loaded one that it had compiled."""
        check(self.program.stop() == 0, self.program.text)
        return [int(count) for count in re.search(COUNTS, self.program.text, re.M).groups()]

    def wait_until(self, version):
        deadline = time.monotonic() + LIMIT
        while self.get() != version:
            check(time.monotonic() < deadline, "never became", version, self.program.text)

    def reload(self):
        times = self.program.text.count("app reloaded")
        self.signal(signal.SIGHUP)
        self.wait_for_reload(times + 1)

    def wait_for_reload(self, times):
        while self.program.text.count("app reloaded") < times:
            seen = len(self.program.text)
            text, self.program.text = self.program.text, ""
            self.program.wait_for("\n")
            self.program.text = text + self.program.text
            check(len(self.program.text) > seen, self.program.text)


def test_states_that_load_a_file_at_once_compile_it_once():
    module = "local t = {}\n" + "".join(f"t[{i}] = function(x) return x + {i} end\n" for i in range(30000))
    script = """
      local evlua, pool, loads = require "evlua", require("evlua.thread").pool(4), {}
      for i = 1, 4 do loads[i] = function() return pool:run(function() return require "big" end) end end
      evlua.all(loads)
      for i = 1, 4 do
        loads[i] = function() return pool:run(function() return select(2, pcall(require, "wrong")) end) end
      end
      for _, message in ipairs{evlua.all(loads)} do assert(message:find "unexpected symbol", message) end
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("big.lua", module + "return #t\n"), ("wrong.lua", module + "return )")):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(text)
        got = run("--workers", "2", "--stats", "-e", script, env={"LUA_PATH": f"{folder}/?.lua"})
        check(got.returncode == 0, got)
        compiled, loaded = re.search(COUNTS, got.stdout + got.stderr, re.M).groups()
        check((int(compiled), int(loaded)) == (1, 3), compiled, loaded)


def test_a_file_is_compiled_once_for_all_states():
    states = ("--workers", "2", "--vms", "3", "--stats")
    with App(*states) as app:
        check(app.get() == "one")
        counts = app.compiled()
        check(counts == [2, 10], "app.lua and version.lua in six states", counts)
    with App(*states) as app:
        app.reload()
        counts = app.compiled()
        check(counts == [2, 22], "the same again: nothing has changed", counts)
    with App(*states) as app:
        app.write("version.lua", 'return "two"')
        app.reload()
        check(app.get() == "two", app.program.text)
        counts = app.compiled()
        check(counts == [3, 21], "what has changed is compiled, once", counts)


def test_hangup_loads_the_app_again_while_a_request_goes_on():
    with App("--workers", "2") as app:
        check(app.get() == "one")
        answers = []
        told = os.path.join(app.folder, "told")
        waiting = threading.Thread(target=lambda: answers.append(app.get("/wait?" + told)))
        waiting.start()
        app.program.wait_for("waiting")
        app.write("version.lua", 'return "two"')
        app.reload()
        check(app.get() == "two", app.program.text)
        app.write("told", "")
        waiting.join()
        check(answers == ["one"], "the old app ends what it has begun", answers)
        app.program.wait_for("stop one\nstop one\n")
        check(app.program.stop() == 0, app.program.text)
        text = app.program.text
        check(text.count("start_once") == 1 and text.count("stop_once") == 1, text)
        check(text.count("stop_once two") == 1 and text.count("stop two") == 2, text)


def test_an_app_that_does_not_load_changes_nothing():
    with App("--workers", "1") as app:
        for wrong in ("return 1 +", "error 'no'", None):
            if wrong:
                app.write("version.lua", wrong)
            else:
                app.write("app.lua", "return 42")
            app.program.text = ""
            app.program.process.send_signal(signal.SIGHUP)
            app.program.wait_for("the app stays as it was")
            check(app.get() == "one")
        app.write("app.lua", APP)
        app.write("version.lua", 'return "two"')
        app.program.text = ""
        app.reload()
        check(app.get() == "two")
        check(app.program.stop() == 0, app.program.text)


def test_no_request_fails_while_the_app_is_exchanged_again_and_again():
    with App("--workers", "2") as app:
        failures, answered, stop = [], threading.Event(), threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    check(app.get() in ("one", "two"))
                    answered.set()
                except Exception as error:
                    failures.append(repr(error))
                    return

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for turn in range(10):
            app.write("version.lua", 'return "two"' if turn % 2 == 0 else 'return "one"')
            answered.clear()
            check(answered.wait(LIMIT), "nobody asks", failures)
            app.reload()
        stop.set()
        for client in clients:
            client.join()
        check(not failures, failures)
        check(app.program.stop() == 0, app.program.text)


def test_who_reads_slowly_what_the_old_app_has_sent():
    """Its handler has ended, and the app is gone: nobody may look for either."""
    admin = tempfile.mktemp(prefix="admin")
    with App("--admin", "unix:" + admin, "--slow-request", "0.2", "--request-timeout", "3") as app:
        slow = []
        for _ in range(8):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(LIMIT)
            s.connect(("127.0.0.1", app.port))
            s.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            got = s.recv(100)
            check(got.startswith(b"HTTP/1.1 200"), got, app.program.text)
            slow.append(s)
        app.write("version.lua", 'return "two"')
        app.reload()
        app.wait_until("two")
        until = time.monotonic() + 4  # their limits pass
        while time.monotonic() < until:
            check(app.get() == "two")
        for s in slow:
            s.close()
        check(app.program.stop() == 0, app.program.text)


def test_requests_of_the_old_app_end_with_their_grace():
    with App("--workers", "1", "--grace", "0.2") as app:
        with socket.create_connection(("127.0.0.1", app.port), LIMIT) as stream:
            stream.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"line\n" not in answer:
                got = stream.recv(65536)
                check(got, answer, app.program.text)
                answer += got
            app.write("version.lua", 'return "two"')
            app.reload()
            while got := stream.recv(65536):
                answer += got
        check(not answer.endswith(b"0\r\n\r\n"), "what was cut off looks whole", answer[-100:])
        app.program.wait_for("stop one")
        check(app.get() == "two")
        check(app.program.stop() == 0, app.program.text)


def test_watching_notices_what_is_written():
    with App("--workers", "2", "--watch") as app:
        app.wait_until("one")
        app.write("version.lua", 'return "two"')
        app.wait_until("two")
        app.program.text = ""
        app.write("version.lua", "return nonsense nonsense")
        app.program.wait_for("the app stays as it was")
        check(app.get() == "two")
        app.write("app.lua", 'return function(_, res) res:text("three") end')
        app.wait_until("three")
        check(app.program.stop() == 0, app.program.text)


def test_a_reload_that_hangs_is_replaced_by_the_next():
    for what in HANGS:
        for options in ((), ("--watch",)):
            with App("--workers", "2", *options) as app:
                app.write("version.lua", "HANGING = true return 'hangs'")
                app.write("app.lua", hanging(what))
                if not options:
                    app.program.process.send_signal(signal.SIGHUP)
                app.program.wait_for("the app stays as it was" if what == "leaves a task" else "starting")
                app.write("app.lua", "return function(_, res) res:text 'repaired' end")
                if not options:
                    app.program.process.send_signal(signal.SIGHUP)
                app.wait_until("repaired")
                check(app.program.stop() == 0, what, app.program.text)


def test_a_reload_that_takes_too_long_is_given_up():
    for what in HANGS.keys() & {"waits", "computes"}:
        with App("--workers", "1", "--start-timeout", "0.2") as app:
            app.write("app.lua", hanging(what))
            app.program.process.send_signal(signal.SIGHUP)
            app.program.wait_for("it takes too long (--start-timeout)")
            check(app.get() == "one")
            app.write("app.lua", "return function(_, res) res:text 'repaired' end")
            deadline = time.monotonic() + LIMIT
            while app.get() != "repaired":  # on a busy machine this may take too long as well
                check(time.monotonic() < deadline, app.program.text)
                app.program.text = ""
                app.signal(signal.SIGHUP)
                app.program.wait_for("load")  # "app reloaded", or "loading the app is given up"
            check(app.program.stop() == 0, app.program.text)


def test_a_hanging_reload_does_not_keep_the_server_from_stopping():
    for what in HANGS.keys() - {"leaves a task"}:
        with App("--workers", "1", "--grace", "1") as app:
            app.write("app.lua", hanging(what))
            app.program.process.send_signal(signal.SIGHUP)
            app.program.wait_for("starting")
            began = time.monotonic()
            check(app.program.stop() == 0, app.program.text)
            check(time.monotonic() - began < LIMIT / 2, "too slow", what, app.program.text)


main(globals())
