"""SIGTERM ends the server in bounded time, whatever the app does; so does SIGUSR2 when the new process hangs."""
import os
import re
import shutil
import signal
import socket
import tempfile
import time

from support import App, EVLUASERVER, LIMIT, THREAD_SANITIZER, Program, check, exchange, main, serve, temporary


def ends_in_time(program, seconds, code):
    """After SIGTERM. Generous: the machine may be busy, but what hangs would hang for LIMIT."""
    began = time.monotonic()
    got = program.stop()
    check(got == code, got, program.text)
    check(time.monotonic() - began < seconds, "too slow", time.monotonic() - began, program.text)


def test_what_does_not_stop_is_told_and_ended():
    insists = "while true do pcall(evlua.sleep, 0.01) end"
    for name, stop, handle in (
        ("stop waits", "evlua.sleep(1000)", ""),
        ("stop computes", "while true do end", ""),
        ("a task insists", "", insists),
        ("a task computes", "", "while true do end"),
    ):
        if THREAD_SANITIZER and "computes" in name:
            continue
        app = temporary(f"""
            local evlua = require "evlua"
            local function hangs() {handle or "return"} end
            return {{
              handle = function(_, res) evlua.spawn(hangs) res:text "ok" end,
              stop = function() {stop} end,
            }}""")
        program, port = serve(app, "--workers", "1", "--grace", "1", "--stop-timeout", "0.3")
        with program:
            check(exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"ok"))
            ends_in_time(program, 30, 1)
            told = "error in stop: " if stop else "tasks that do not end are ended"
            check(told in program.text, name, program.text)
            check(not stop or "it takes too long" in program.text, name, program.text)
            check(os.path.basename(app) in program.text, "where it is", name, program.text)
            check("it leaves" not in program.text, "by errors, not by leaving", name, program.text)


# In C, and until there is something to read.
BLOCKS = 'package.loadlib("libc.so.6", "getchar")()'


def serve_without_input(app, *options):
    """As serve; reading standard input blocks for ever."""
    reader, writer = os.pipe()
    program = Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", *options, setup=lambda: os.dup2(reader, 0))
    program.input = writer
    os.close(reader)
    program.port = int(program.word_after("http://127.0.0.1:"))
    return program


def test_what_cannot_be_ended_is_left():
    app = temporary(f"return {{handle = function() end, stop = function() {BLOCKS} end}}")
    with serve_without_input(app, "--workers", "1", "--grace", "0", "--stop-timeout", "0.1") as program:
        ends_in_time(program, 40, 1)
        check("still waiting for the app's stop" in program.text, program.text)


def test_one_signal_is_one_signal():
    """It comes while the app does not react, and is not taken for two when it does."""
    app = temporary(f"""
        return {{handle = function(req, res)
          io.stderr:write "blocks\\n" io.stderr:flush()
          {BLOCKS}
          res:text "ok"
        end}}""")
    with serve_without_input(app, "--workers", "1") as program:
        with socket.create_connection(("127.0.0.1", program.port), LIMIT) as s:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            program.wait_for("blocks")
            program.process.send_signal(signal.SIGTERM)
            program.wait_for("stopping")
            os.write(program.input, b"\0")  # as many results
            check(s.recv(1000).endswith(b"ok"), program.text)
        check(program.process.wait(LIMIT) == 0, program.text)


def test_who_stops_starts_no_successor():
    app = temporary("""
        local evlua = require "evlua"
        return function(req, res)
          io.stderr:write "waits\\n"
          while not io.open(req.query_string) do evlua.sleep(0.01) end
          res:text "ok"
        end""")
    flag = temporary("")
    os.unlink(flag)
    program, port = serve(app, "--workers", "1")
    with program:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
            s.sendall(b"GET /?%s HTTP/1.0\r\n\r\n" % flag.encode())
            program.wait_for("waits")
            program.process.send_signal(signal.SIGTERM)
            program.wait_for("stopping")
            program.process.send_signal(signal.SIGUSR2)
            with open(flag, "w"):
                check(s.recv(1000).endswith(b"ok"), program.text)
        check(program.process.wait(LIMIT) == 0, program.text)
        program.stop()
        check("takes over" not in program.text and program.text.count("listening") == 1, program.text)
    os.unlink(flag)


def test_a_second_signal_ends_at_once():
    for number in (signal.SIGTERM, signal.SIGINT):
        for stop in ("evlua.sleep(1000)", "while true do end", BLOCKS):
            app = temporary(f"""
                local evlua = require "evlua"
                return {{handle = function() end, stop = function()
                          io.stderr:write "stop began\\n" io.stderr:flush()
                          {stop}
                        end}}""")
            with serve_without_input(app, "--workers", "1", "--stop-timeout", "1000") as program:
                program.process.send_signal(number)
                program.wait_for("stop began")
                code = program.stop(number)
                check(code in (128 + number, -number), code, program.text)


CALM = 'return {handle = function(_, res) res:text "ok" end}'
HANGS = """
local evlua = require "evlua"
return {
  handle = function() end,
  start = function() io.stderr:write "start hangs\\n" evlua.sleep(1000) end,
}"""


def upgrade(server, app):
    """Asks for a successor, which finds that app."""
    server.write("app.lua", app)
    server.signal(signal.SIGUSR2)


def take_over(program):
    """Waits until the program has been replaced; the new process's id."""
    program.wait_for("takes over")
    check(program.process.wait(LIMIT) == 0, program.text)
    return int(re.search(r"process (\d+) takes over", program.text)[1])


def end_successor(program, pid):
    os.kill(pid, signal.SIGTERM)
    program.stream.read()  # to the end of the second process


def test_a_successor_that_hangs_is_given_up():
    with App({"app.lua": CALM}, "--workers", "1", "--start-timeout", "0.5") as server:
        upgrade(server, HANGS)
        server.program.wait_for("the new process takes too long (--start-timeout)")
        check(server.get() == "ok")
        check(server.program.stop() == 0, server.program.text)


def test_a_successor_that_hangs_is_replaced_by_the_next():
    with App({"app.lua": CALM}, "--workers", "1") as server:
        upgrade(server, HANGS)
        server.program.wait_for("start hangs")
        upgrade(server, CALM)
        server.program.wait_for("the new process is ended: another one is asked for")
        pid = take_over(server.program)
        check(server.get() == "ok")
        end_successor(server.program, pid)


def test_a_successor_that_hangs_does_not_keep_the_server_from_stopping():
    with App({"app.lua": CALM}, "--workers", "1") as server:
        upgrade(server, HANGS)
        server.program.wait_for("start hangs")
        ends_in_time(server.program, 30, 0)
        check("the new process is ended: the server stops" in server.program.text, server.program.text)
        check("we go on" not in server.program.text, server.program.text)


def test_the_successor_is_what_has_the_name_now():
    folder = tempfile.mkdtemp()
    for release in ("rel1", "rel2"):
        os.mkdir(os.path.join(folder, release))
        shutil.copy(EVLUASERVER, os.path.join(folder, release, "evluaserver"))
    link = os.path.join(folder, "cur")
    os.symlink("rel1", link)
    app = temporary('return function(_, res) res:text "ok" end')
    program = Program(os.path.join(link, "evluaserver"), app, "--listen", "127.0.0.1:0", "--workers", "1")
    with program:
        program.word_after("http://127.0.0.1:")
        os.unlink(link)
        os.symlink("rel2", link)
        program.process.send_signal(signal.SIGUSR2)
        pid = take_over(program)
        check(os.readlink(f"/proc/{pid}/exe").endswith("/rel2/evluaserver"), os.readlink(f"/proc/{pid}/exe"))
        end_successor(program, pid)
    shutil.rmtree(folder)


main(globals())
