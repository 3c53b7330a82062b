"""The command line of evlua."""
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile

from support import EVLUA, LIMIT, Program, check, main, run, serve, temporary


def test_arguments():
    path = temporary("print(#arg, arg[0] ~= nil, arg[1], arg[2], ...)")
    got = run(path, "a", "b c")
    check(got.returncode == 0 and got.stdout == "2\ttrue\ta\tb c\ta\tb c\n", got)
    got = run("--", path, "--workers")
    check(got.stdout.startswith("1\ttrue\t--workers"), got)
    os.remove(path)


def test_options():
    check(run("-e", "x = 1", "-e", "print(x + 1)").stdout == "2\n")
    check(run("-", "z", stdin="print('in', ...)").stdout == "in\tz\n")
    check(run(stdin="print 'piped'").stdout == "piped\n")
    check(run("-levlua", "-e", "print(type(evlua.sleep))").stdout == "function\n")
    check("Lua 5.3" in run("-v").stdout and "evlua" in run("--version").stdout)
    check(run("--help").returncode == 0 and "usage" in run("--help").stdout)
    check(run("--workers", "2", "--stats", "-e", "").returncode == 0)


def figures_of(text):
    """What --stats has printed: the rows of the table, and all numbers of each line below it."""
    rows = {name: cells.split() for name, cells in re.findall(r"^(worker \d+) +(.*) ms$", text, re.M)}
    return rows, {name: re.findall(r"[\d.]+", rest) for name, rest in re.findall(r"^([\w ]+): (.*)$", text, re.M)}


def test_stats():
    """Queues, Lua states, tasks and memory are told as they were at the most, since all have ended then."""
    states = """
      local evlua, thread, tasks = require "evlua", require "evlua.thread", {}
      local here, gate = thread.channel(), thread.channel()
      local function wait() here:send(true) gate:receive() end
      for i = 1, 8 do tasks[i] = function() thread.run(wait) end end
      evlua.spawn(function() for i = 1, 8 do here:receive() end gate:close() end)
      evlua.all(tasks)
      return #("x"):rep(24 << 20)
    """
    rows, lines = figures_of(run("--workers=2", "--stats", "-e", states).stderr)
    check(sorted(rows) == ["worker 0", "worker 1"] and all(len(cells) == 7 for cells in rows.values()), rows)
    check(lines["Lua states"] == ["9", "9"], lines)
    check(lines["tasks"] == ["18", "10"], lines)  # main, eight, one that looks; and one of each state
    check(24 < float(lines["memory"][0]) < float(lines["memory"][1]), lines)
    # Those whose sleeps end at the same time are in the queue of the one worker that there is.
    sleeps = """
      local evlua, thread, tasks = require "evlua", require "evlua.thread", {}
      for i = 1, 8 do
        tasks[i] = function() thread.run(function(t)
          local evlua = require "evlua"
          evlua.sleep(t - evlua.now())
          local busy = evlua.now() + 0.005
          while evlua.now() < busy do end
        end, evlua.now() + 0.2) end
      end
      evlua.all(tasks)
    """
    rows, lines = figures_of(run("--workers=1", "--stats", "-e", sleeps).stderr)
    check(3 <= int(rows["worker 0"][5]) <= 8, rows)


def test_stats_of_whatever_end():
    for code, end in ("os.exit(3)", 3), ("error 'no'", 1), ("require'evlua.sync'.event():wait()", 1):
        got = run("--workers=1", "--stats", "-e", code)
        check(got.returncode == end and got.stderr.count("Lua states: 1 made") == 1, code, got)
    with Program(EVLUA, "--workers", "1", "--stats", "-e", "print'up' io.flush() require'evlua'.sleep(100)",
                 watch="stdout") as program:
        program.wait_for("up")
        check(program.stop(signal.SIGTERM) == 143 and "Lua states: 1 made" in program.text, program.text)


ORDER = """(function()
  local t, order = {}, {}
  for i = 1, 64 do t["long-enough-for-all-of-a-seed" .. i] = true end
  for name in pairs(t) do order[#order + 1] = name end
  return table.concat(order, " ")
end)"""


def test_nobody_can_tell_which_keys_collide():
    """Every Lua state hashes strings with another seed, even if it has the addresses of all the others (as with
    setarch -R, where stock Lua has one seed for a second). The order of a table's keys tells."""
    code = f"print({ORDER}()) for _ = 1, 3 do print(require 'evlua.thread'.run({ORDER})) end"
    got = [subprocess.run(["setarch", "-R", EVLUA, "-e", code], capture_output=True, text=True, timeout=LIMIT)
           for _ in range(3)]
    orders = "".join(one.stdout for one in got).splitlines()
    check(len(orders) == 12 and all(order.count(" ") == 63 for order in orders), got)
    check(len(set(orders)) == 12, "states with the same seed", 12 - len(set(orders)))
    app = temporary(f"""
        local function start() io.stderr:write("order ", {ORDER}(), "\\n") end
        return {{handle = print, start = start}}""")
    program, _ = serve(app, "--workers", "2", "--vms", "2")
    with program:
        check(program.stop() == 0, program.text)
    orders = [line for line in program.text.splitlines() if line.startswith("order ")]
    check(len(orders) == 4 and len(set(orders)) == 4, orders)
    os.unlink(app)


def test_the_options_of_lua():
    """What `lua5.3 -?` lists, and LUA_INIT, do what they do there."""
    script = temporary("print('script', arg[0] ~= nil, ...) print(arg[-1])")
    module = "nosuchmodule" + str(os.getpid())
    init = {"LUA_INIT": "print('init', arg and arg[0] ~= nil, math.type(x)) x = 1"}
    both = dict(init, LUA_INIT_5_3="@" + temporary("print('file of init', ...)"))
    paths = {"LUA_PATH": "/nowhere/?.lua;;", "LUA_CPATH_5_3": "/nowhere/?.so"}
    cases = [
        (["-e", "print(1)"],), (["-eprint(1)", "-e", "print(x)"],), (["-e", "error('x', 0)", script],),
        (["-l", "math"], "print(math == require 'math', ...)"), (["-lmath", "-", "a"], "print(math ~= nil, ...)"),
        (["-l", module], "print('not run')"), (["-l", "math", "-e", "print(1)"], "print('not run')"),
        (["-", "a", "-e"], "print(...)"), ([], "print('input', ...)"), (["--", script, "-x"],), ([script, "-E", "--"],),
        (["-e", "print(x)"], "", init), ([script, "a"], "", init), ([], "print(x)", init), ([script], "", both),
        (["-E", script], "", both), (["-E", "-e", "print(os.getenv('LUA_PATH'))"], "", paths),
        (["-e", "print(x)"], "", {"LUA_INIT": "error('no start', 0)"}),
        (["-e", "print(x)"], "", {"LUA_INIT": "x = = 1"}), (["-e", "print(x)"], "", {"LUA_INIT": "@/nowhere.lua"}),
        (["-e", "print(package.path:find('nowhere') and 1, package.cpath:find('nowhere') and 1)"], "", paths),
        (["-E", "-e", "print(package.path:find('nowhere') and 1, package.cpath:find('nowhere') and 1)"], "", paths),
    ]

    def outcome(program, arguments, stdin="", env=None):
        got = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, timeout=LIMIT,
                             env=dict(os.environ, **(env or {})), check=False)
        return got.stdout.replace(program, "PROGRAM"), got.returncode, got.stderr.count("\n") > 0

    stock = shutil.which("lua5.3")
    for case in cases if stock else []:
        check(outcome(EVLUA, *case) == outcome(stock, *case), case, outcome(EVLUA, *case), outcome(stock, *case))
    # Without the environment paths are the defaults, in other Lua states as well.
    code = ("local f = function() return package.path .. package.cpath end "
            "print(f() == require('evlua.thread').run(f), f())")
    plain = dict(os.environ)
    for name in ("LUA_PATH", "LUA_CPATH", "LUA_PATH_5_3", "LUA_CPATH_5_3"):
        plain.pop(name, None)
    wanted = subprocess.run([EVLUA, "-e", code], capture_output=True, text=True, timeout=LIMIT, env=plain, check=True)
    got = run("-E", "-e", code, env=paths)
    check(got.returncode == 0 and got.stdout == wanted.stdout and got.stdout.startswith("true\t"), got, wanted)
    # LUA_INIT is for scripts.
    check(run("--check", "-", stdin="", env={"LUA_INIT": "error()"}).returncode == 0)
    check(run("-v", env=init).stdout.count("\n") == 2)


def test_interactive():
    script = temporary("print('script', ...) x = 5\n"
                       "task = require('evlua').spawn(function() require('evlua').sleep(1000) end)")
    got = run("-l", "math", "-i", script, "a", stdin="x\nfor i = 1, 2 do\nprint(i)\nend\nerror('oh')\ntask:status()\n")
    lines = got.stdout.splitlines()
    check(got.returncode == 0 and lines[0].startswith("evlua ") and lines[1] == "script\ta" and
          lines[2:] == ["> 5", "> >> >> 1", "2", '> > "waiting"', "> "], got)
    check(got.stderr.startswith("stdin:1: oh\n"), got)
    check(run("-i", stdin="os.exit(7)").returncode == 7)
    got = run("-i", "-v", "-e", "y = 1", stdin="y")
    check(got.stdout.count("evlua ") == 1 and "> 1\n" in got.stdout, got)
    for arguments in (["-i", "-e", "error('x')"], ["-i", "/nowhere.lua"], ["-i", "-l", "nosuchmodule"]):
        got = run(*arguments, stdin="print('not run')")
        check(got.returncode == 1 and "not run" not in got.stdout and got.stderr, arguments, got)


def test_wrong_usage():
    for arguments in (["--nonsense"], ["--workers", "0"], ["--workers"], ["--backend", "quantum", "-e", ""]):
        got = run(*arguments)
        check(got.returncode == 2 and got.stderr, arguments, got)
    got = run("-e", "", env={"EVLUA_BACKEND": "quantum"})
    check(got.returncode == 2 and "quantum" in got.stderr, got)


def test_scripts_that_fail():
    path = temporary("#!/usr/bin/env evlua\nlocal x = = 1\n")
    got = run(path)
    check(got.returncode == 1 and got.stderr == f"evlua: {path}:2: unexpected symbol near '='\n", got)
    os.remove(path)
    got = run("/no/such/script.lua")
    check(got.returncode == 1 and "/no/such/script.lua" in got.stderr and got.stderr.count("\n") == 1, got)
    got = run("-e", "error({})")
    check(got.returncode == 1 and "error object is a table value" in got.stderr, got)
    check(run("-e", "os.exit(7)").returncode == 7 and run("-e", "os.exit(false)").returncode == 1)
    check(run("-e", "io.write('flushed') os.exit(true)").stdout == "flushed")


def test_traceback_spans_coroutines_and_spawn_sites():
    path = temporary("""
local evlua = require "evlua"
local function inner() evlua.sleep(0) error("deep down") end
local function middle() coroutine.wrap(inner)() end
local task = evlua.spawn(function()
  coroutine.wrap(middle)()
end)
task:join()
""")
    got = run(path)
    check(got.returncode == 1, got)
    for words in ("deep down", path + ":3:", path + ":4:", path + ":6:", "spawned at", path + ":5", path + ":8:"):
        check(words in got.stderr, words, got.stderr)
    os.remove(path)


def test_task_that_nobody_joined():
    got = run("-e", "require('evlua').spawn(function() error('lost?') end)")
    check(got.returncode == 1 and "lost?" in got.stderr, got)


    # It is told while the program still runs, because what the task did not do may be what the others wait for.
    with Program(EVLUA, "-e", "local e = require 'evlua' t = e.spawn(function() error('lost?') end) "
                 "e.sleep(100)") as program:
        program.wait_for("lost?")
        check(program.stop(signal.SIGTERM) == 143 and program.text.count("lost?") == 1, program.text)


def test_an_error_of_the_script_ends_the_program():
    got = run("-e", "local e = require 'evlua' e.spawn(e.sleep, 1000) e.spawn(function() error('cause') end) "
              "e.sleep(0) error('symptom')")
    check(got.returncode == 1 and got.stderr.index("cause") < got.stderr.index("symptom"), got)


def test_a_finalizer_at_the_end_begins_no_task():
    script = """
        local evlua, thread = require "evlua", require "evlua.thread"
        local finalizer = {__gc = function()
          local ok, message = pcall(evlua.spawn, print)
          print(ok, message:match("a finalizer.*"))
        end}
        thread.run(function() left = setmetatable({}, {__gc = function() require("evlua").spawn(print) end}) end)
        left = setmetatable({}, finalizer)"""
    done = run("-e", script)
    refused = "false\ta finalizer that runs when the program ends cannot begin a task\n"
    check(done.returncode == 0 and done.stdout.endswith(refused), done)


def test_errors_of_finalizers_at_the_end_are_told():
    got = run("-e", "left = setmetatable({}, {__gc = function() error('in a finalizer') end}) print('the end')")
    check(got.returncode == 0 and got.stdout == "the end\n", got)
    check(got.stderr == "evlua: error in __gc: (command line):1: in a finalizer\n", got)


def test_a_full_disk_is_told_and_what_fits_is_there():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "limited")
        script = """
            local path, size = arg[1], tonumber(arg[2])
            local function told(ok, message, code) print(ok and true, code or message) end
            local file = assert(io.open(path, "w"))
            local ok, message, code = file:write(("x"):rep(size))  -- waits where that is much
            if ok then ok, message, code = file:flush() end
            told(ok, message, code)
            told(file:seek("cur") <= 8192 or nil, file:seek("cur"))
            told(file:close())
            local fs = require "evlua.fs"
            for _, options in ipairs{{}, {append = true}} do
              os.remove(path)
              told(fs.write(path, ("y"):rep(size), options))
              print(fs.stat(path).size)
            end
            told(fs.replace(path, ("z"):rep(size)))
            file = assert(fs.open(path, "w"))
            told(file:write(("a"):rep(size)))
            file:close()
            print(#assert(fs.read(path)))"""

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

        def lines(size):
            got = subprocess.run([EVLUA, temporary(script), path, str(size)], preexec_fn=limit, capture_output=True,
                                 text=True, timeout=LIMIT, restore_signals=False, check=False)
            check(got.returncode == 0, got)
            return got.stdout.splitlines()

        check(lines(8000) == ["true\tnil", "true\t8000", "true\tnil", "true\tnil", "8000", "true\tnil", "8000",
                              "true\tnil", "true\tnil", "8000"], lines(8000))
        for size in (20000, 40000, 100000, 1000000):
            got = lines(size)
            check(got == ["nil\t27", "true\t8192", "true\tnil", "nil\tEFBIG", "8192", "nil\tEFBIG", "8192",
                          "nil\tEFBIG", "nil\tEFBIG", "8192"], size, got)


def test_closed_standard_streams():
    script = temporary("""
local evlua = require "evlua"
local net = require "evlua.net"
local first = {io.read()}
local listener = assert(net.listen("127.0.0.1:0"))
local written = {io.write("out\\n")}
io.stderr:write("err\\n")
local file = assert(io.open(arg[1], "w"))
assert(file:write(tostring(first[1]), " ", tostring(first[3]), " ", listener:address() ~= nil and "listens"))
assert(file:close())
""")
    for closed in range(8):
        result = script + ".result"
        program = subprocess.run(
            [EVLUA, script, result], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=60, check=False, close_fds=False,
            preexec_fn=lambda closed=closed: [os.close(fd) for fd in range(3) if closed & 1 << fd])
        with open(result, encoding="utf-8") as file:
            got = file.read()
        check(got == ("nil 9 listens" if closed & 1 else "nil nil listens"), closed, got, program.stderr)
        check(program.stdout == (b"" if closed & 2 else b"out\n"), closed, program.stdout)
        check(program.stderr == (b"" if closed & 4 else b"err\n"), closed, program.stderr)


def test_what_other_states_have_written_is_kept_at_the_end():
    ends = {"os.exit(0, false)": 0, "require 'evlua'.exit(3)": 3, "error 'x'": 1}
    for how, code in ends.items():
        result = temporary("")
        script = temporary(f"""
local thread, evlua = require "evlua.thread", require "evlua"
local channel = thread.channel(1)
evlua.spawn(thread.run, function(channel, path)
  local file = io.open(path, "w")
  file:write("data")
  print("of a thread")
  channel:send(true)
  require "evlua".sleep(100)
end, channel, arg[1])
channel:receive()
{how}
""")
        ended = subprocess.run([EVLUA, "--workers", "2", script, result], capture_output=True, timeout=60, check=False)
        with open(result, encoding="utf-8") as file:
            check(file.read() == "data", how, ended.stderr)
        check(ended.stdout == b"of a thread\n" and ended.returncode == code, how, ended)
    script = temporary("print('kept') require 'evlua.thread'.run(function() os.exit(4) end)")
    for _ in range(10):
        ended = subprocess.run([EVLUA, script], capture_output=True, timeout=60, check=False)
        check(ended.stdout == b"kept\n" and ended.returncode == 4, ended)


def test_waits_for_tasks():
    got = run("-e", "local e = require 'evlua' e.spawn(function() e.sleep(0.05) print 'later' end) print 'first'")
    check(got.returncode == 0 and got.stdout == "first\nlater\n", got)


def test_signals():
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with Program(EVLUA, "-e", "local e = require 'evlua' e.spawn(function() e.sleep(100) end) "
                     "io.stderr:write('ready\\n') e.sleep(100)") as program:
            program.wait_for("ready")
            check(program.stop(number) == code, program.text)
            check(program.text.count("stack traceback") == 2 and "spawned at" in program.text, program.text)
        # A loop that never waits is no shelter.
        with Program(EVLUA, "-e", "io.stderr:write('ready\\n') io.stderr:flush() while true do end") as program:
            program.wait_for("ready")
            check(program.stop(number) == code, program.text)
    with Program(EVLUA, "-e", "local e = require 'evlua' e.on_signal('SIGTERM', function(n) print('got ' .. n) "
                 "os.exit(3) end) io.stderr:write('ready\\n') e.sleep(100)") as program:
        program.wait_for("ready")
        check(program.stop(signal.SIGTERM) == 3 and "got SIGTERM" in program.text, program.text)


def test_where_a_module_is_missing():
    for line in ("require 'missing'", "return require 'missing'", "return require()"):
        path = temporary(f"local x\n{line}\n")
        got = run(path)
        check(got.returncode == 1 and got.stderr.startswith(f"evlua: {path}:2: "), line, got)
        check(f"\n\t[C]: in function 'require'\n\t{path}:2: in main chunk\n" in got.stderr, line, got)
        os.remove(path)


def test_require_waits():
    path = temporary("local evlua = require 'evlua' evlua.sleep(0.01) return {name = ..., loaded = true}")
    directory, name = os.path.split(path)
    code = f"""
package.path = '{directory}/?.lua'
local evlua = require 'evlua'
local a, b = evlua.all{{function() return require '{name[:-4]}' end, function() return require '{name[:-4]}' end}}
assert(a == b and a.loaded and a.name == '{name[:-4]}')
local ok, message = pcall(require, 'no.such.module')
assert(not ok and message:find("module 'no.such.module' not found", 1, true))
assert(message:find('no field package.preload', 1, true))
print(dofile('{path}').loaded, loadfile('/nowhere'))
"""
    got = run("-e", code)
    check(got.stdout == "true\tnil\tcannot open /nowhere: No such file or directory\n", got)
    os.remove(path)


main(globals())
