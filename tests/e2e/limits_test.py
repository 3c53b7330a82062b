"""evluaserver under handlers that take too much: time, processor time, memory. Each is refused, the server lives on."""
import os
import threading

from support import check, exchange, main, serve, temporary

APP = temporary("""
local evlua = require "evlua"
local caught = 0
local acts = {
  hello = function() return "hello" end,
  state = function() return tostring(_G) end,
  loop = function() while true do end end,
  pcall = function() while true do pcall(function() while true do end end) end end,
  wrapped = function()
    local co = coroutine.wrap(function() while true do end end)
    while true do pcall(co) end
  end,
  group = function() return evlua.timeout(100, function() while true do end end) end,
  handler = function() return xpcall(error, function() while true do end end) end,
  words = function() error(setmetatable({}, {__tostring = function() while true do end end})) end,
  sort = function() table.sort({3, 2, 1}, function() while true do end end) end,
  move = function() return #table.move({}, 1, math.maxinteger - 1, 2) end,
  insert = function()
    local holes = {}
    for _, i in ipairs{1, 2, 4} do holes[i] = true end
    for bit = 0, 58 do holes[5 << bit] = true end  -- of a length that nobody has written
    assert(#holes == 5 << 58)
    table.insert(holes, 1, true)
  end,
  nothing = function() return #string.rep("", math.maxinteger) .. #string.rep("", -1) .. #string.rep("", 1, "x") end,
  pieces = function() while true do for _ = 1, 1000 do end evlua.yield() end end,
  rep = function() return #string.rep("x", 10000000000) end,
  recursion = function() local function f() return 1 + f() end return f() end,
  coroutines = function()
    local all = {}
    for i = 1, 10000000 do all[i] = coroutine.create(function() end) end
  end,
  tables = function() local all = {} for i = 1, 1000000000 do all[i] = {i} end end,
  concat = function() local s = "x" while true do s = s .. s end end,
  pattern = function() return ("x"):rep(50000):find(".-.-.-y") end,
  sleep = function() evlua.sleep(1000) return "slept" end,
  stubborn = function() while true do pcall(evlua.sleep, 1000) end end,
}
return {
  start_once = function() io.stderr:write("start once\\n") end,
  start = function() io.stderr:write("start each\\n") end,
  stop = function() io.stderr:write("stop each\\n") end,
  stop_once = function() io.stderr:write("stop once\\n") end,
  handle = function(req, res)
    local got = acts[req.path:sub(2)]()
    res:text(tostring(got))
  end,
}
""")
THREAD_SANITIZER = "thread" in os.environ.get("EVLUA_SANITIZE", "")  # no slice of Lua can be ended there
ENDLESS = ("loop", "pcall", "wrapped", "sort", "group", "handler", "move", "insert")


def get(port, path):
    head = f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(port, head.encode())
    return int(answer.split(b" ")[1]), answer.split(b"\r\n\r\n", 1)[1].decode()


def expect(program, port, path, status, words):
    got = get(port, path)
    check(got[0] == status, path, got, program.text)
    check(got[0] == 200 or words not in got[1], "the client is told too much", got)
    program.wait_for(words)
    check(get(port, "hello") == (200, "hello"), path, program.text)


def test_processor_time():
    program, port = serve(APP, "--workers", "1", "--cpu-limit", "0.05")
    with program:
        for path in ("pieces", "pattern") + (() if THREAD_SANITIZER else ENDLESS):
            expect(program, port, path, 503, "CPU time limit exceeded")
        check(get(port, "nothing") == (200, "000"), "nothing, many times", program.text)
        check(program.stop() == 0, program.text)


def test_time():
    program, port = serve(APP, "--workers", "2", "--request-timeout", "0.2")
    with program:
        for path in ("sleep", "stubborn") + (() if THREAD_SANITIZER else ("loop", "sort", "group", "handler")):
            expect(program, port, path, 503, "time limit exceeded")
        check(program.stop() == 0, program.text)


def test_error_whose_words_take_for_ever():
    program, port = serve(APP, "--workers", "1")
    with program:
        check(get(port, "words")[0] == 500, program.text)
        check(get(port, "hello") == (200, "hello"), program.text)
        check(program.stop() == 0, program.text)


def test_memory():
    program, port = serve(APP, "--workers", "1", "--vm-memory", "64")
    with program:
        for path in ("coroutines", "tables", "concat", "recursion", "rep"):
            status, body = get(port, path)
            check(status == 500 and "memory" not in body, path, status, body)
            check(get(port, "hello") == (200, "hello"), path, program.text)
        check(program.stop() == 0, program.text)
    check(program.text.count("not enough memory") >= 3, program.text)


def test_states_of_a_worker():
    program, port = serve(APP, "--workers", "1", "--vms", "2", "--grace", "0.1")
    with program:
        first = get(port, "state")
        if not THREAD_SANITIZER:
            threading.Thread(target=lambda: exchange(port, b"GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")).start()
            states = set()
            while len(states) < 1 or states == {first}:
                states.add(get(port, "state"))
        check(program.stop() == 0, "an endless handler ends with the grace period", program.text)
    text = program.text
    check(text.count("start once") == 1 and text.count("start each") == 2, text)
    check(text.count("stop once") == 1 and text.count("stop each") == 2, text)
    check(text.index("start once") < text.index("start each"), text)
    check(text.index("stop once") > text.rindex("stop each"), text)


try:
    main(globals())
finally:
    os.unlink(APP)
