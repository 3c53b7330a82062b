"""Deadlocks: told when every task waits for another one; and never when something from outside can wake any."""
import os
import signal
import socket
import subprocess
import tempfile

from support import EVLUA, LIMIT, check, main


def run(code, *arguments):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "script.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write(code)
        return subprocess.run([EVLUA, *arguments, "script.lua"], cwd=directory, capture_output=True, text=True,
                              timeout=LIMIT, stdin=subprocess.DEVNULL, check=False)


HEAD = 'local evlua, sync = require "evlua", require "evlua.sync"\n'
TOLD = "evlua: deadlock: all tasks wait for each other\n"


def deadlock(code, *wanted):
    for workers in ("1", "2"):
        got = run(HEAD + code, "--workers", workers)
        check(got.returncode == 1 and TOLD in got.stderr, code, got)
        for text in wanted:
            check(text in got.stderr, code, "no", text, "in", got.stderr)


def fine(code, output=""):
    for workers in ("1", "2"):
        got = run(HEAD + code, "--workers", workers)
        check(got.returncode == 0 and got.stderr == "", code, got)
        check(got.stdout == output, code, got)


def test_is_told():
    deadlock("sync.channel():receive()", "main, waiting for channel:receive:", "script.lua:2: in main chunk")
    deadlock("for _ in sync.channel() do end", "main, waiting for channel:receive:")
    deadlock("sync.channel():send(1)", "main, waiting for channel:send:")
    deadlock("sync.select{sync.channel(), sync.event()}", "main, waiting for sync.select:")
    deadlock("sync.event():wait()", "main, waiting for event:wait:")
    deadlock("local g = sync.wait_group() g:add() g:wait()", "main, waiting for wait_group:wait:")
    deadlock("local s = sync.semaphore(1) s:acquire() s:acquire()", "main, waiting for semaphore:acquire:")
    deadlock("local l = sync.rwlock() l:lock_read() l:lock_write()", "main, waiting for rwlock:lock_write:")


def test_each_task_is_shown():
    deadlock("""
local a, b = sync.mutex(), sync.mutex()
local function both(first, second)
  first:lock()
  evlua.sleep(0.01)
  second:lock()
end
evlua.spawn(both, a, b):name("left"):name()
local right = evlua.spawn(both, b, a)
right:join()
""", "main, waiting for task:join:", "left, waiting for mutex:lock:",
             "task from script.lua:10, waiting for mutex:lock:",
             "script.lua:7: in function <script.lua:4>", "[spawned at script.lua:9]")
    deadlock("local function f() sync.event():wait() end evlua.all{f, f}", "main, waiting for all:")
    deadlock("evlua.scope(function(s) s:spawn(function() sync.event():wait() end) end)", "main, waiting for scope:")
    deadlock("evlua.map({1}, function() sync.event():wait() end)", "main, waiting for map:")
    deadlock("coroutine.wrap(function() sync.event():wait() end)()", "in coroutine resumed by:")
    deadlock("evlua.defer(function() sync.event():wait() end)", "main, waiting for defer:",
             "deferred, waiting for event:wait:")


def test_is_told_after_the_script():
    deadlock("evlua.spawn(function() for job in sync.channel() do print(job) end end)", "task from script.lua:2")
    deadlock("evlua.spawn(function() sync.event():wait() end) evlua.sleep(0.02)", "waiting for event:wait:")
    # Errors that nobody has joined may be the cause.
    deadlock("local e = sync.event() evlua.spawn(function() error('the cause') end) e:wait()", "the cause")


def test_what_may_still_come():
    fine("local c = sync.channel() evlua.spawn(function() evlua.sleep(0.01) c:send(1) end) print(c:receive())", "1\n")
    fine("print(select(3, sync.channel():receive{timeout = 0.01}))", "ETIMEDOUT\n")
    fine("print(select(3, evlua.timeout(0.01, function() sync.event():wait() end)))", "ETIMEDOUT\n")
    fine("print(sync.select{sync.channel(), 0.01})", "2\ttrue\n")
    fine("local e = sync.event() evlua.every(0.01, function() e:set() end) e:wait() os.exit(0)")
    fine("local t = evlua.spawn(function() sync.event():wait() end) evlua.yield() t:cancel() t:join()")
    fine("""local e = sync.event()
local t = evlua.spawn(function() e:wait() end)
evlua.scope(function(s) s:spawn(function() evlua.sleep(0.01) e:set() end) end)
t:join()""")
    fine("local l = sync.limiter{rate = 100} l:wait() l:wait()")
    fine("evlua.defer(function() evlua.sleep(0.01) print 'deferred' end)", "deferred\n")
    # What a limit has ended has a second for that, and then it is told as an error.
    limited = "evlua.limit({time = 0.01}, function() evlua.defer(sync.event().wait, sync.event()) evlua.sleep(9) end) "
    got = run(HEAD + limited + "print 'ended'", "--workers", "1")
    check(got.stdout == "ended\n" and "time limit exceeded" in got.stderr and "deadlock" not in got.stderr, got)


def test_other_states():
    fine("""local thread = require "evlua.thread"
local c, done = thread.channel(), sync.event()
evlua.spawn(function() c:receive() done:set() end)
local t = thread.spawn(function() require("evlua").sleep(0.02) c:send(1) end)
done:wait()
t:join()""")
    fine("""local shared = require "evlua.shared"
local e = sync.event()
evlua.spawn(function() shared.with_lock("name", function() evlua.sleep(0.02) end) end)
evlua.spawn(function() shared.with_lock("name", function() e:set() end) end)
e:wait()""")
    fine("""local dict, e = require("evlua.shared").dict("d"), sync.event()
local watch = dict:watch()
evlua.spawn(function() watch:next() e:set() end)
require("evlua.thread").spawn(function() require("evlua.shared").dict("d"):set("a", 1) end)
e:wait()
watch:close()""")
    fine("""local thread = require "evlua.thread"
print(thread.run(function()
  local evlua, sync = require "evlua", require "evlua.sync"
  local c = sync.channel()
  evlua.spawn(function() evlua.sleep(0.01) c:send("there") end)
  return c:receive()
end))""", "there\n")


def test_in_another_state():
    code = """local thread = require "evlua.thread"
local function stuck()
  local evlua, sync = require "evlua", require "evlua.sync"
  evlua.spawn(function() sync.channel():send(1) end):name("sender")
  LEFT
end
local pool = thread.pool(1)
for _, run in ipairs{thread.run, function(f) return pool:run(f) end} do
  local ok, message = pcall(run, stuck)
  assert(not ok and message:find("deadlock: all tasks of the Lua state wait for each other", 1, true), message)
  assert(message:find("sender, waiting for channel:send:", 1, true), message)
end
assert(pool:run(math.max, 1, 2) == 2)
"""
    fine(code.replace("LEFT", ""))
    fine(code.replace("LEFT", "sync.event():wait()"))
    # Who is cancelled and waits again is cancelled for good.
    fine(code.replace("LEFT", "while true do sync.event():wait() end"))
    got = run("require('evlua.thread').run(function() require('evlua.sync').event():wait() end)")
    check(got.returncode == 1 and "waiting for event:wait:" in got.stderr, got)


def test_input():
    code = HEAD + """local e = sync.event()
evlua.spawn(function() print(io.read("l")) e:set() end)
print "ready"
io.flush()
e:wait()"""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "script.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write(code)
        with subprocess.Popen([EVLUA, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as program:
            check(program.stdout.readline() == "ready\n", "not ready")
            out, err = program.communicate("a line\n", timeout=LIMIT)
            check(program.returncode == 0 and out == "a line\n" and err == "", out, err)


def test_sockets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)
        port = server.getsockname()[1]
        code = HEAD + f"""local net = require "evlua.net"
local s = assert(net.connect("127.0.0.1", {port}))
local e = sync.event()
evlua.spawn(function() sync.select{{s, sync.channel()}} print(s:read(10)) e:set() end)
evlua.yield()
s:write("go")
e:wait()"""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "script.lua")
            with open(path, "w", encoding="utf-8") as f:
                f.write(code)
            with subprocess.Popen([EVLUA, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
                peer, _ = server.accept()
                with peer:
                    peer.settimeout(LIMIT)
                    check(peer.recv(2) == b"go", "nothing came")
                    peer.sendall(b"hello")
                    out, err = program.communicate(timeout=LIMIT)
                check(program.returncode == 0 and out == "hello\n" and err == "", out, err)


def test_signals():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "script.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write(HEAD + """local e = sync.event()
evlua.on_signal("SIGUSR1", function() e:set() end)
evlua.spawn(function() evlua.sleep(0.01) print "ready" io.flush() end)
e:wait()
print "woken"
evlua.on_signal("SIGUSR1", nil)
sync.event():wait()""")
        with subprocess.Popen([EVLUA, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            check(program.stdout.readline() == "ready\n", "not ready")
            program.send_signal(signal.SIGUSR1)
            out, err = program.communicate(timeout=LIMIT)
            check(program.returncode == 1 and out == "woken\n" and TOLD in err, program.returncode, out, err)


main(globals())
