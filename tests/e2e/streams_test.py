"""Whatever the standard streams are: a terminal, a pipe, a file, a socket, /dev/null or nothing at all.

Where lua5.3 has an answer, that is what is expected.
"""
import itertools
import os
import pty
import select
import shutil
import socket
import subprocess
import tempfile
import termios
import threading

from support import EVLUA, LIMIT, check, eventually, main, temporary

STOCK = shutil.which("lua5.3")
FOLDER = tempfile.mkdtemp()
CHANNELS = ("terminal", "pipe", "unix", "tcp")  # what has two ends
INPUTS = CHANNELS + ("file",)
OUTPUTS = CHANNELS + ("file", "append")
END_OF_INPUT = b"\x04"  # as typed at a terminal, at the beginning of a line


def tcp_pair():
    with socket.socket() as listener:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # else they grow to megabytes
            listener.setsockopt(socket.SOL_SOCKET, option, 16384)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        near.connect(listener.getsockname())
        return near, listener.accept()[0]


def ends(kind, into_program):
    """Our descriptor, and the one for the program."""
    if kind == "terminal":
        ours, theirs = pty.openpty()
        mode = termios.tcgetattr(theirs)
        mode[1] &= ~termios.OPOST  # a newline stays one byte
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, mode)
        return ours, theirs
    if kind == "pipe":
        reader, writer = os.pipe()
        return (writer, reader) if into_program else (reader, writer)
    pair = socket.socketpair() if kind == "unix" else tcp_pair()
    return pair[0].detach(), pair[1].detach()


def received(fd, most):
    try:
        return os.read(fd, most)
    except OSError:  # a terminal that the program has left
        return b""


class Input:
    """Gives pieces of text to the program, and then the end."""

    def __init__(self, kind, pieces):
        self.kind, self.pieces = kind, pieces
        if kind == "file":
            with tempfile.NamedTemporaryFile(dir=FOLDER, delete=False) as file:
                file.write(b"".join(pieces))
            self.theirs = os.open(file.name, os.O_RDONLY)
            return
        self.ours, self.theirs = ends(kind, True)

    def feed(self):
        """When the program is there: else the end would be the only thing that it finds."""
        os.close(self.theirs)
        if self.kind != "file":
            self.feeder = threading.Thread(target=self.give)
            self.feeder.start()

    def give(self):
        for piece in self.pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self.ours, rest):]
        if self.kind == "terminal":
            os.write(self.ours, END_OF_INPUT * 10)  # each ends one read
        elif self.kind == "pipe":
            os.close(self.ours)
        else:
            with socket.socket(fileno=os.dup(self.ours)) as near:
                near.shutdown(socket.SHUT_WR)

    def end(self):
        if self.kind != "file":
            self.feeder.join(LIMIT)
            check(not self.feeder.is_alive(), "the input was not read")
        if self.kind not in ("file", "pipe"):
            os.close(self.ours)


class Output:
    """Gathers what the program says."""

    def __init__(self, kind):
        self.kind, self.text = kind, b""
        if kind in ("file", "append"):
            self.path = tempfile.mktemp(dir=FOLDER)
            how = os.O_APPEND if kind == "append" else 0
            self.theirs = os.open(self.path, os.O_WRONLY | os.O_CREAT | how)
        else:
            self.ours, self.theirs = ends(kind, False)

    def wait_until_full(self):
        """Nothing more goes into it: the program waits."""
        eventually(lambda: not select.select([], [self.theirs], [], 0)[1], self.kind, "is full")

    def gather(self, most=65536):
        os.close(self.theirs)
        if self.kind in ("file", "append"):
            return
        self.reader = threading.Thread(target=self.take, args=[most])
        self.reader.start()

    def take(self, most):
        parts = []
        while part := received(self.ours, most):
            parts.append(part)
        self.text = b"".join(parts)

    def end(self):
        """All that came, once the program has ended."""
        if self.kind in ("file", "append"):
            with open(self.path, "rb") as file:
                return file.read()
        self.reader.join(LIMIT)
        check(not self.reader.is_alive(), "the output does not end")
        os.close(self.ours)
        return self.text


def start(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, setup=None):
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, preexec_fn=setup)


def commands(script, *for_stock):
    """Of lua5.3, if it is there, and of evlua."""
    stock = [[STOCK, *for_stock, script]] if STOCK else []
    return [*stock, [EVLUA, script]]


READING = temporary("""
print(io.read("n", "n", "l"))
print(io.read("n"))
print(io.read())
print(io.read("L"))
print(io.read(4), io.read(0))
for line in io.lines() do
  print("[" .. line .. "]")
  if line == "end" then break end
end
for a, b in io.stdin:lines(1, 2) do
  print(a, b)
  if b == "ef" then break end
end
print(io.read(1))
local long = io.read(60000)
print(#long, long:sub(-10))
print(#io.read("a"))
print(io.read("a"), io.read("l"), io.read("n"), io.read(0), io.read(1))
""")
TEXT = [b"12 0x1p4 rest\n", b"nonsense\n", b"", b"a line\n", b"with its end\nfour", b" and\n", b"more\n", b"end\n",
        b"abcdef\n", *[b"%06d %s\n" % (i, b"x" * 92) for i in range(1500)], b"no newline"]


def ran(command, source, sink):
    program = start(command, source.theirs, sink.theirs, sink.theirs)
    source.feed()
    sink.gather()
    code = program.wait(LIMIT)
    source.end()
    return code, sink.end()


def test_reading():
    # What is typed ends with a line: in the middle of one, the end of the input is only that of the line so far.
    pieces = {kind: TEXT[:-1] if kind == "terminal" else TEXT for kind in INPUTS}
    for kind in INPUTS:
        wanted = None
        for command in commands(READING):
            for sink in OUTPUTS if command[0] == EVLUA else ["pipe"]:
                got = ran(command, Input(kind, pieces[kind]), Output(sink))
                wanted = wanted or got
                check(got == wanted and got[0] == 0, kind, sink, got, "instead of", wanted)


def test_a_terminal_goes_on_behind_its_end():
    script = temporary("for _ = 1, 2 do print(io.read('a')) end print(io.read('l')) print(io.read('l'))")
    pieces = [b"one\ntwo\n", END_OF_INPUT, b"three\n", END_OF_INPUT, b"part", END_OF_INPUT, END_OF_INPUT]
    for command in commands(script):
        got = ran(command, Input("terminal", pieces), Output("pipe"))
        check(got == (0, b"one\ntwo\n\nthree\n\npart\nnil\n"), command, got)


def test_the_order_of_what_is_written():
    script = temporary("""
for i = 1, 500 do
  print("print", i)
  io.write("write ", i, "\\n")
  if i % 7 == 0 then io.write("part of a line, ") end
  io.stderr:write("error ", i, "\\n")
  if i % 11 == 0 then io.stderr:write(("large"):rep(1000)) end
  if i % 100 == 0 then io.write(("larger"):rep(20000)) end
end
print "last"
error("message", 0)
""")
    for kind in OUTPUTS:
        wanted = None
        # lua5.3 keeps the order if its standard output has no buffer.
        for command in commands(script, "-e", "io.stdout:setvbuf('no')"):
            sink = Output(kind)
            program = start(command, subprocess.DEVNULL, sink.theirs, sink.theirs)
            sink.gather()
            code = program.wait(LIMIT)
            text, _, after = sink.end().partition(b"last\n")
            check(code == 1 and b": message\n" in after, kind, command, code, after)
            wanted = wanted or text
            check(text == wanted, kind, command, first_difference(text, wanted))


def first_difference(got, wanted):
    at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    return f"at {at}: {got[at - 40:at + 40]} instead of {wanted[at - 40:at + 40]}"


ENDS = {"": 0, "os.exit(3)": 3, "os.exit(true, true)": 0, "error({code = 1})": 1, "require('evlua').exit(4)": 4,
        "coroutine.wrap(function() os.exit(5) end)()": 5, "require('evlua').spawn(function() error('x') end)": 1}
LINES = "".join(f"line {i}\n" for i in range(100000)).encode()


def test_a_slow_reader_loses_nothing():
    writes = "local out = io.%s for i = 0, 99999 do out:write('line ', i, '\\n') end %s"
    for kind, stream in itertools.product(OUTPUTS, ("stdout", "stderr")):
        for how, code in ENDS.items():
            sink = Output(kind)
            program = start([EVLUA, "-e", writes % (stream, how)], **{stream: sink.theirs})
            if kind in CHANNELS:
                sink.wait_until_full()
            sink.gather(most=1000)
            check(program.wait(LIMIT) == code, kind, stream, how, program.returncode)
            text = sink.end()
            # Behind them, standard error tells what went wrong.
            check(text == LINES if stream == "stdout" or code not in (1,) else text.startswith(LINES),
                  kind, stream, how, len(text), first_difference(text, LINES))


def test_one_who_does_not_block_loses_nothing():
    """Whoever has the other end of a terminal or a pipe may have made it so."""
    writes = "for i = 0, 99999 do io.%s:write('line ', i, '\\n') end"
    for kind, stream in itertools.product(CHANNELS, ("stdout", "stderr")):
        sink = Output(kind)
        os.set_blocking(sink.theirs, False)
        program = start([EVLUA, "-e", writes % stream], **{stream: sink.theirs})
        sink.gather(most=1000)
        check(program.wait(LIMIT) == 0 and sink.end() == LINES, kind, stream)
    for kind in CHANNELS:
        source = Input(kind, TEXT[:-1])
        os.set_blocking(source.theirs, False)
        code, text = ran([EVLUA, "-e", "print(#io.read('a'))"], source, Output("pipe"))
        check(code == 0 and int(text) == sum(map(len, TEXT[:-1])), kind, code, text)


def test_others_go_on_while_a_stream_waits():
    script = temporary("""
local evlua, fs = require "evlua", require "evlua.fs"
evlua.spawn(function()
  if arg[1] == "stdin" then print(io.read()) end
  io[arg[1] == "stdin" and "stdout" or arg[1]]:write(("x"):rep(1 << 20)):flush()
end)
evlua.yield()
for i = 1, 20 do evlua.sleep(0.001) end
assert(fs.write(arg[2], "went on"))
""")

    def wait_for(path, kind, stream):
        eventually(lambda: os.path.exists(path) and open(path).read() == "went on", kind, stream, "goes on")

    for kind, stream in itertools.product(CHANNELS, ("stdin", "stdout", "stderr")):
        path = tempfile.mktemp(dir=FOLDER)
        source, sink = Input(kind, [b"line\n"]), Output(kind)
        streams = {"stdin": source.theirs, "stdout" if stream == "stdin" else stream: sink.theirs}
        program = start([EVLUA, "--workers", "1", script, stream, path], **streams)
        wait_for(path, kind, stream)
        source.feed()
        sink.gather()
        check(program.wait(LIMIT) == 0, kind, stream, program.returncode)
        source.end()
        text = sink.end()
        check(text == (b"line\n" if stream == "stdin" else b"") + b"x" * (1 << 20), kind, stream, len(text))


def test_a_conversation():
    """What has been asked is seen before the answer is read: at a terminal, though the question has no newline."""
    script = temporary("""
if arg[1] ~= "terminal" then io.stdout:setvbuf("no") end
for _, what in ipairs{"name", "place"} do
  io.write(what, "? ")
  local answer = io.read()
  io.stderr:write("(", answer, ") ")
end
print(io.read())
""")
    for kind in ("terminal", "unix", "tcp"):
        ours, theirs = ends(kind, True)
        program = start([EVLUA, script, kind], theirs, theirs, theirs)
        os.close(theirs)
        for question, answer in ((b"name? ", b"Ada\n"), (b"(Ada) place? ", b"London\n"), (b"(London) ", b"")):
            seen = b""
            while seen != question:
                check(select.select([ours], [], [], LIMIT)[0], kind, seen)
                part = received(ours, 65536)
                check(part and len(seen) <= len(question), kind, seen)
                seen += part
            os.write(ours, answer)
        if kind == "terminal":
            os.write(ours, END_OF_INPUT)
        else:
            with socket.socket(fileno=os.dup(ours)) as near:
                near.shutdown(socket.SHUT_WR)
        check(received(ours, 65536) == b"nil\n", kind)
        check(program.wait(LIMIT) == 0, kind, program.returncode)
        os.close(ours)


def test_a_file_that_others_write_to():
    """At one position, or at the end: nobody overwrites what is there."""
    script = temporary("""
for i = 1, 20 do
  print("ours", i)
  io.flush()
  assert(os.execute("echo theirs " .. i))
end
""")
    wanted = "".join(f"ours\t{i}\ntheirs {i}\n" for i in range(1, 21)).encode()
    for kind in ("file", "append"):
        sink = Output(kind)
        os.write(sink.theirs, b"before\n")
        program = start([EVLUA, script], stdout=sink.theirs, stderr=sink.theirs)
        sink.gather()
        check(program.wait(LIMIT) == 0 and sink.end() == b"before\n" + wanted, kind)


def test_what_is_not_read_is_left():
    """For the next program, where the input has a position."""
    script = temporary("print(io.read())")
    for command in ([EVLUA, script], [EVLUA, "-e", "print(io.read()) os.exit(0)"]):
        source = Input("file", [b"first\nsecond\nthird\n"])
        for line in (b"first\n", b"second\n"):
            sink = Output("pipe")
            program = start(command, source.theirs, sink.theirs)
            sink.gather()
            check(program.wait(LIMIT) == 0 and sink.end() == line, command)
        source.feed()


def test_nothing_and_closed():
    script = temporary("""
local function show(...)
  local values = table.pack(...)
  for i = 1, values.n do values[i] = type(values[i]) == "userdata" and "file" or tostring(values[i]) end
  return table.concat(values, " ", 1, values.n)
end
local function written(file, text)
  local told = table.pack(file:write(text))
  if told[1] then told = table.pack(file:flush()) end  -- lua5.3 may tell one call earlier
  return show(table.unpack(told, 1, told.n))
end
local told = {
  show(io.read()), show(io.read("a")), show(io.read("n")), show(io.read(0)),
  show(io.stdout:seek("cur")), written(io.stderr, "err"),
  written(io.stdout, "out"), written(io.stdout, ("x"):rep(100000)),
}
print "still here"
local file = assert(io.open(arg[1], "w"))
file:write(table.concat(told, "\\n"))
file:close()
""")
    for kind, closed in itertools.product(("/dev/null", "/dev/full", "closed"), range(8)):
        if kind == "/dev/full" and closed & 1:
            continue  # reading it never ends

        def setup():
            for fd in range(3):
                if closed & 1 << fd and kind == "closed":
                    os.close(fd)

        def stream(fd):
            how = os.O_RDONLY if fd == 0 else os.O_WRONLY
            return os.open(kind if closed & 1 << fd and kind != "closed" else "/dev/null", how)

        wanted = None
        for command in commands(script):
            path = tempfile.mktemp(dir=FOLDER)
            streams = [stream(fd) for fd in range(3)]
            code = start([*command, path], *streams, setup=setup).wait(LIMIT)
            for fd in streams:
                os.close(fd)
            with open(path, encoding="utf-8") as file:
                got = code, file.read().splitlines()
            wanted = wanted or got
            check(got == wanted, kind, f"{closed:03b}", got, "instead of", wanted)


if __name__ == "__main__":
    try:
        main(globals())
    finally:
        shutil.rmtree(FOLDER)
