"""What programs hold is bounded: messages, what the allocator keeps; and memory that the system refuses."""
import os
import re
import subprocess

from support import EVLUA, LIMIT, SANITIZED, check, exchange, main, run, serve, temporary


APP = temporary("""
local evlua, thread = require "evlua", require "evlua.thread"
local queue = thread.channel(100000)
local acts = {
  hello = function() return "hello" end,
  chan = function()
    local channel, s = thread.channel(100000), ("x"):rep(1 << 20)
    for _ = 1, 5000 do channel:send(s) end
  end,
  small = function()
    local channel = thread.channel(1 << 24)
    for i = 1, 1 << 24 do channel:send(i) end
  end,
  keep = function()
    local n, s = 0, ("x"):rep(1 << 20)
    while n < 5000 and pcall(queue.send, queue, s, {timeout = 0}) do n = n + 1 end
    return n
  end,
  drain = function()
    local n = 0
    while queue:receive{timeout = 0} do n = n + 1 end
    return n
  end,
  pump = function()
    local channel, s = thread.channel(2), ("x"):rep(1 << 20)
    for _ = 1, 300 do channel:send(s) assert(#channel:receive() == #s) end
    return "pumped"
  end,
  cycles = function()  -- three that hold each other, 200 times
    local s = ("x"):rep(1 << 20)
    for _ = 1, 200 do
      local a, b, c = thread.channel(1), thread.channel(1), thread.channel(1)
      assert(a:send{b} and b:send{c, c, s} and c:send{a})
    end
    return "cycled"
  end,
  elsewhere = function()  -- the same, where the other two are let go of in another state
    for _ = 1, 100 do
      local a, b = thread.channel(1), thread.channel(1)
      assert(a:send{b, ("x"):rep(1 << 20)})
      thread.run(function(b, a) assert(b:send{a}) end, b, a)
    end
    return "cycled"
  end,
  chain = function()  -- each holds the one before
    local last = thread.channel(1)
    for _ = 1, 100000 do
      local link = thread.channel(1)
      link:send(last)
      last = link
    end
    last = nil
    collectgarbage()
    return "chained"
  end,
  alive = function()  -- a circle that one still has
    local a, b = thread.channel(1), thread.channel(1)
    assert(a:send{b, "in a"} and b:send{a, "in b"})
    b = nil
    for _ = 1, 3 do collectgarbage() end
    local got = a:receive()
    return got[2] .. ", " .. got[1]:receive()[2]
  end,
  pack = function() return #string.pack("z", ("x"):rep(40 << 20)) end,
  one = function() return #("x"):rep(30 << 20) end,
  fill = function() held = {} for i = 1, 300000 do held[i] = {i} end return "filled" end,
  empty = function() held = nil collectgarbage() collectgarbage() return "emptied" end,
  collector = function()
    local pause, speed = collectgarbage("setpause", 1000), collectgarbage("setstepmul", 100)
    evlua.sleep(0.001)
    return table.concat({pause, speed, collectgarbage("setpause", pause), collectgarbage("setstepmul", speed)}, " ")
  end,
}
return function(req, res)
  local size = tonumber(req.path:match("^/(%d+)$"))
  if size then
    local all = {}
    pcall(function() for i = 1, 1e7 do all[i] = ("%08d"):format(i) .. ("x"):rep(size - 8) end end)
    local count = #all
    all = nil
    collectgarbage()
    return res:text(tostring(count))
  end
  res:text(tostring(acts[req.path:sub(2)]()))
end
""")


def get(port, path):
    answer = exchange(port, f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return int(answer.split(b" ")[1]), answer.split(b"\r\n\r\n", 1)[1].decode()


def peak_mib(program):
    with open(f"/proc/{program.process.pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s*(\d+) kB", f.read())[1]) // 1024


def test_messages_count_for_their_sender():
    program, port = serve(APP, "--workers", "1", "--vm-memory", "64")
    with program:
        for path in ("chan", "small"):
            check(get(port, path)[0] == 500, path, program.text)
            program.wait_for("not enough memory")
            check(get(port, "pump") == (200, "pumped"), path, program.text)
        kept = int(get(port, "keep")[1])
        check(40 <= kept < 64, kept)
        check(get(port, "pump")[0] == 500, "a full queue is no garbage")
        check(get(port, "drain") == (200, str(kept)))
        check(get(port, "pump") == (200, "pumped"), program.text)
        peak = peak_mib(program)
        check(SANITIZED or peak < 250, peak)
        check(program.stop() == 0, program.text)


def test_channels_that_hold_each_other_are_garbage():
    program, port = serve(APP, "--workers", "1", "--vm-memory", "64")
    with program:
        acts = {"cycles": "cycled", "elsewhere": "cycled", "alive": "in a, in b", "chain": "chained"}
        for path, told in acts.items():
            check(get(port, path) == (200, told), path, program.text)
        check(get(port, "pump") == (200, "pumped"), program.text)
        peak = peak_mib(program)
        check(SANITIZED or peak < 300, peak)
        check(program.stop() == 0, program.text)


def test_memory_that_was_freed_serves_other_sizes():
    program, port = serve(APP, "--workers", "1", "--vm-memory", "48", "--cpu-limit", "60")
    with program:
        counts = [int(get(port, size)[1]) for size in range(12, 216, 24)]
        check(min(counts) > 50_000, counts)
        peak = peak_mib(program)
        check(SANITIZED or peak < 130, peak)
        check(program.stop() == 0, program.text)


def test_what_only_finalizers_free_is_no_burden_for_the_next_request():
    program, port = serve(APP, "--workers", "1", "--vm-memory", "64")
    with program:
        for _ in range(3):
            check(get(port, "pack")[0] == 500, program.text)
            check(get(port, "one") == (200, str(30 << 20)), program.text)
        check(program.stop() == 0, program.text)


def test_the_collector_is_set_by_the_program():
    program, port = serve(APP, "--workers", "1", "--vm-memory", "64")
    with program:
        for path, told in {"hello": "hello", "fill": "filled", "empty": "emptied"}.items():
            check(get(port, path) == (200, told), path, program.text)
            got = get(port, "collector")
            check(got == (200, "200 200 1000 100"), path, got)
        check(program.stop() == 0, program.text)


SENT = """
local thread = require "evlua.thread"
local sent = ("x"):rep(64 << 20)
local channel, answers = thread.channel(), thread.channel()
local receiver = thread.spawn(function() local got = channel:receive() answers:send(#got) end)
channel:send(sent)
print(answers:receive())
receiver:join()
"""


def test_a_long_string_is_copied_once_to_another_state():
    got = run("--stats", "-e", SENT)
    check(got.stdout == "%d\n" % (64 << 20), got)
    peak = float(re.search(r"memory: .* state, ([\d.]+) MiB in the process", got.stderr)[1])
    check(SANITIZED or 128 < peak < 160, "more than the sender's and the receiver's", peak)


def test_long_strings_count_for_their_receiver():
    code = """
      local thread = require "evlua.thread"
      local channel = thread.channel(1)
      local receiver = thread.spawn(function()
        local got, kept = 0, {}
        local ok, message = pcall(function() for s in channel do kept[#kept + 1] = s got = got + #s end end)
        return ok, message, #kept
      end)
      local sent = ("x"):rep(1 << 20)
      for _ = 1, 100 do channel:send(sent, {timeout = 0.2}) end
      channel:close()
      print(receiver:join())
    """
    got = run("--vm-memory", "32", "-e", code)
    ok, message, kept = got.stdout.split("\t")
    check(ok == "false" and "not enough memory" in message and 24 <= int(kept) < 32, got)
    drops = code.replace("kept[#kept + 1] = s ", "")
    got = run("--vm-memory", "32", "-e", drops)
    check(got.stdout == "true\tnil\t0\n", got)


FILL = "local t = {} for i = 1, 1e9 do t[i] = {i} end"
WITHIN = """
local thread = require "evlua.thread"
local function fill() %s end
local function told(ok, message) return not ok and tostring(message):find("not enough memory", 1, true) ~= nil end
local task = require("evlua").spawn(function() for _ = 1, 20 do require("evlua").yield() end return "unharmed" end)
assert(told(pcall(fill)))
assert(told(pcall(string.rep, "x", 1 << 30)))
assert(task:join() == "unharmed")
assert(#("x"):rep(20 << 20) == 20 << 20)  -- what was in the way is gone
-- Another state has as much for itself, and no more.
local kept = ("x"):rep(20 << 20)
assert(thread.run(function() return #("x"):rep(20 << 20) end) == #kept)
assert(told(pcall(thread.run, fill)))
local pool = thread.pool(1)
assert(told(pcall(pool.run, pool, fill)) and pool:run(function() return "unharmed" end) == "unharmed")
pool:close()
-- And what it sends counts for it.
local channel, sent = thread.channel(1000), 0
assert(told(pcall(function() while true do channel:send(("x"):rep(1 << 20)) sent = sent + 1 end end)) and sent < 64)
-- Garbage does not count.
kept = nil
for i = 1, 3e6 do local t = {i} end
print "done"
""" % FILL


def test_states_of_scripts_have_a_limit():
    for workers in "1", "2":
        got = run("--workers", workers, "--vm-memory", "64", "-e", WITHIN)
        check(got.returncode == 0 and got.stdout == "done\n", got)
    got = run("--vm-memory", "64", "-e", FILL)
    check(got.returncode == 1 and got.stderr.startswith("evlua: not enough memory\nstack traceback:\n"), got)
    got = run("--vm-memory", "64", "-e", "require('evlua.thread').run(function() %s end)" % FILL)
    check(got.returncode == 1 and "not enough memory" in got.stderr and "in task:" in got.stderr, got)
    large = "print(#('x'):rep(100 << 20))"
    check(run("-e", large).stdout == run("--vm-memory=0", "-e", large).stdout == "%d\n" % (100 << 20))
    for wrong in "", "x", "-1", "1.5", "64M", str(1 << 64):
        got = run("--vm-memory", wrong, "-e", "print(1)")
        check(got.returncode == 2 and "--vm-memory takes a number from 0 to " in got.stderr, wrong, got)


SHORT = temporary("""
local thread, shared = require "evlua.thread", require "evlua.shared"
local acts = {
  blocks = function()
    local channel, s = thread.channel(1000), ("x"):rep(100 << 20)
    for _ = 1, 100 do channel:send(s) end
  end,
  argument = function()
    local s = ("x"):rep(200 << 20)
    return thread.run(function(a) return #a end, s, s, s, s, s, s)
  end,
  counters = function() for i = 1, 1e7 do shared.counter("c" .. i) end end,
  state = function()
    return thread.run(function() local kept = {} for i = 1, 1e9 do kept[i] = {i} end end)
  end,
}
local ok, message = pcall(acts[arg[1]])
print(ok, message)
assert(#("x"):rep(1 << 20) == 1 << 20)
""")


def test_memory_that_the_system_refuses():
    if SANITIZED:
        return  # they need far more addresses than that
    for act, workers in (("blocks", 1), ("argument", 1), ("counters", 1), ("state", 1), ("state", 2)):
        command = ["bash", "-c", 'ulimit -v 1000000; exec "$@"', "bash", EVLUA, "--workers", str(workers), SHORT, act]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        check(ran.returncode == 0 and re.match("false.*not enough memory", ran.stdout), act, ran)


try:
    main(globals())
finally:
    os.unlink(APP)
    os.unlink(SHORT)
