"""evlua at a terminal: a pseudo-terminal, and what somebody would see there."""
import os
import pty
import re
import select
import signal
import tempfile
import termios
import time

from support import EVLUA, LIMIT, THREAD_SANITIZER, check, main

STATES = tempfile.TemporaryDirectory()
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\([A-Z]|[\x07\x0f]")


class Terminal:
    """evlua in a pseudo-terminal; what it prints is gathered without what moves the cursor."""

    def __init__(self, *arguments, state=None):
        self.state = state or tempfile.mkdtemp(dir=STATES.name)
        self.text, self.seen = "", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", XDG_STATE_HOME=self.state, HOME="/nonexistent")
            os.execv(EVLUA, [EVLUA, *arguments])

    def __enter__(self):
        self.expect("Ctrl-D leaves")
        self.expect("> ")
        return self

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def receive(self, seconds):
        if not select.select([self.fd], [], [], max(0, seconds))[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += ESCAPES.sub("", got.decode(errors="replace")).replace("\r", "")
        return got != b""

    def expect(self, words):
        """Waits until the words are printed, behind those of the last time. Returns what is before them."""
        deadline = time.monotonic() + LIMIT
        while (at := self.text.find(words, self.seen)) < 0:
            check(time.monotonic() < deadline, f"no {words!r} in {self.text[self.seen:]!r}")
            self.receive(deadline - time.monotonic())
        before, self.seen = self.text[self.seen:at], at + len(words)
        return before

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def enter(self, line, *answers, prompt="> "):
        """Types a line, and waits for the answers and the next prompt."""
        self.type(line + "\r")
        for answer in answers:
            self.expect(answer)
        self.expect(prompt)

    def is_as_before(self):
        """Lines and echo are the terminal's own affair."""
        wanted = termios.ICANON | termios.ECHO | termios.ISIG
        return termios.tcgetattr(self.fd)[3] & wanted == wanted

    def end(self):
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + LIMIT
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            check(time.monotonic() < deadline, f"it does not end: {self.text!r}")
            self.receive(0.01)


def test_results():
    with Terminal() as terminal:
        terminal.enter("1 + 1", "\n2\n")
        terminal.enter("'text', nil, 2.0", '\n"text"\tnil\t2.0\n')
        terminal.enter("x = {1, {a = 'b'}, [true] = print == nil}")
        terminal.enter("x", '\n{1, {a = "b"}, [true] = false}\n')
        terminal.enter("x.me = x return x", '\n{1, {a = "b"}, me = <cycle>, [true] = false}\n')
        terminal.enter("=x[1]", "\n1\n")
        terminal.enter("local y = 5")
        terminal.enter("y", "\nnil\n")
        terminal.enter("print('said')", "\nsaid\n")
        terminal.enter("(function() return end)()")
        terminal.enter("t = {} for i = 1, 1000 do t[i] = i end return t", "\n  100,\n  ...\n}\n")
        terminal.enter("setmetatable({}, {__tostring = function() return 'shown so' end})", "\nshown so\n")
        terminal.enter("setmetatable({}, {__tostring = function() error('x') end})", "__tostring fails")
        terminal.enter("require('evlua').sleep(0.01)", "\ntrue\n")
        terminal.enter("'grüße'", '"grüße"')
        terminal.type("\x04")
        check(terminal.end() == 0, terminal.text)


def test_behind_a_script():
    path = os.path.join(STATES.name, "script.lua")
    with open(path, "w", encoding="utf-8") as f:
        f.write("print('script', ...) x = 41 task = require('evlua').spawn(require('evlua').sleep, 1000)\n"
                "if ... == 'fails' then error('oh') end")
    with Terminal("-i", path, "a") as terminal:
        check("script\ta\n" in terminal.text, terminal.text)
        terminal.enter("x + 1", "\n42\n")
        terminal.enter("task:status()", '"waiting"')
        terminal.type("\x04")
        check(terminal.end() == 0, terminal.text)
    with Terminal("-e", "x = 1", "-i") as terminal:
        terminal.enter("x", "\n1\n")
    terminal = Terminal("-i", path, "fails")
    check(terminal.end() == 1 and "script.lua:2: oh" in terminal.text and "> " not in terminal.text, terminal.text)
    os.close(terminal.fd)


def test_errors():
    with Terminal() as terminal:
        terminal.enter("error('oh')", "\nstdin:1: oh\n")
        terminal.enter("local function deep() error('deep') end deep()", "\nstdin:1: deep\nstack traceback:\n", "deep")
        terminal.enter("error({code = 7})", "error value: {code = 7}")
        terminal.enter("x = = 1", "stdin:1: unexpected symbol near '='")
        terminal.enter("nothing.field", "attempt to index a nil value (global 'nothing')")
        terminal.enter("1", "\n1\n")


def test_several_lines():
    with Terminal() as terminal:
        terminal.enter("function f(a)", prompt="\n>> ")
        terminal.enter("  return a * 2", prompt="\n>> ")
        terminal.enter("end", prompt="\n> ")
        terminal.enter("f(4)", "\n8\n")
        terminal.enter("f(", prompt="\n>> ")
        terminal.enter("5)", "\n10\n")
        # Ctrl-C gives them up, and what is being typed.
        terminal.enter("function g()", prompt="\n>> ")
        terminal.type("retu\x03")
        terminal.expect("^C\n> ")
        terminal.type("nonsense(\x03")
        terminal.expect("^C\n> ")
        terminal.enter("g", "\nnil\n")


def test_interrupt():
    endless = ["while true do end", "require('evlua').sleep(1000)",
               "while true do pcall(function() while true do end end) end",
               "local e = require 'evlua' e.all{function() e.sleep(1000) end, function() while true do end end}",
               "table.sort({3, 2, 1}, function() while true do end end)",
               "require('evlua').atomic(function() while true do end end)",
               "while true do xpcall(error, function() while true do end end) end",
               "require('evlua.sync').channel():receive()", "while true do require('evlua').sleep(0.001) end"]
    if THREAD_SANITIZER:
        endless = [code for code in endless if "while" not in code or "sleep(0" in code]
    with Terminal() as terminal:
        terminal.enter("alive = 0 e = require 'evlua'")
        terminal.enter("ticker = e.every(0.001, function() alive = alive + 1 end)")
        for code in endless:
            terminal.type(f"print('begun') {code}\r")
            terminal.expect("\nbegun\n")
            terminal.type("\x03")
            terminal.expect("interrupted\n> ")
        # The others go on.
        terminal.enter("before = alive e.sleep(0.05) return alive > before, ticker:status()", '\ntrue\t"waiting"\n')


def test_interrupt_at_any_moment():
    endless = "while true do require('evlua').sleep(0.001) end" if THREAD_SANITIZER else "while true do end"
    with Terminal() as terminal:
        for i in range(150):
            terminal.type(endless + "\r")
            time.sleep(i % 50 * 0.00003)  # from before the line is read until it runs
            os.kill(terminal.pid, signal.SIGINT)
            deadline = time.monotonic() + LIMIT
            while not (ended := re.search(r"(interrupted|\^C)\n> $", terminal.text[terminal.seen:])):
                check(time.monotonic() < deadline, f"round {i}: {terminal.text[terminal.seen:]!r}")
                terminal.receive(deadline - time.monotonic())
            terminal.seen += ended.end()
        terminal.enter("'here'", '"here"')


def test_interrupt_has_a_handler():
    with Terminal("-l", "evlua") as terminal:
        terminal.enter("function wait() evlua.on_signal('SIGINT', function() print('handled') go = true end) "
                       "go = false print('begun') while not go do evlua.sleep(0.001) end return 'over' end")
        terminal.type("wait()\r")
        terminal.expect("\nbegun\n")
        terminal.type("\x03")
        terminal.expect('handled\n"over"\n> ')
        terminal.type("not whole\x03")
        terminal.expect("^C\n> ")
        terminal.type("evlua.on_signal('SIGINT', print) evlua.on_signal('SIGINT', nil) "
                      "print('begun') evlua.sleep(1000)\r")
        terminal.expect("\nbegun\n")
        terminal.type("\x03")
        terminal.expect("interrupted\n> ")
        check("SIGINT\n" not in terminal.text, terminal.text)


def test_interrupt_between_a_line_and_what_it_does():
    with Terminal("-l", "evlua") as terminal:
        # The prompt uses what is global: here its own work takes some time.
        terminal.enter("stock_load = load")
        terminal.enter("function load(...) print('loads') evlua.sleep(0.05) return stock_load(...) end")
        terminal.type("while true do evlua.sleep(0.001) end\r")
        terminal.expect("\nloads\n")
        terminal.type("\x03")
        terminal.expect("interrupted\n> ")
        terminal.enter("load = stock_load")


def test_tasks_go_on_at_the_prompt():
    with Terminal("-l", "evlua") as terminal:
        terminal.enter("task = evlua.spawn(function() evlua.sleep(0.2) print('from the task') end)")
        terminal.expect("from the task\n")
        terminal.enter("task:status()", '"done"')
        # Leaving does not wait for them.
        terminal.enter("task = evlua.spawn(evlua.sleep, 1000)")
        terminal.type("\x04")
        check(terminal.end() == 0, terminal.text)


def test_what_tasks_print_stands_above_the_prompt():
    with Terminal("-l", "evlua") as terminal:
        # The task prints when a file appears; by then the line is typed as far as is seen here.
        terminal.enter("fs, sign = require 'evlua.fs', os.tmpname() os.remove(sign)")
        terminal.enter("function later(f) return evlua.spawn(function() "
                       "while not fs.stat(sign) do evlua.sleep(0.005) end fs.remove(sign) f() end) end")
        terminal.enter("return sign", "\n\"")
        sign = re.findall(r'\n"(/tmp/[^"]*)"', terminal.text)[-1]

        def appear(code, typed, seen=None):
            terminal.enter(f"task = later(function() {code} end)")
            terminal.type(typed)
            terminal.expect(seen or typed[-20:])
            with open(sign, "x", encoding="utf-8"):
                pass

        appear("print('from the task')", "1234 +")
        terminal.expect("from the task\n> 1234 +")
        terminal.enter(" 1", "1235\n")
        # The cursor is where it was.
        appear("io.stderr:write('an error\\n')", "'ac'\x1b[D\x1b[D", "'ac'")
        terminal.expect("an error\n> 'ac'")
        terminal.enter("b", '"abc"\n')
        # Half a line ends in front of the prompt.
        appear("io.write('half') io.stdout:flush()", "'whole'")
        terminal.expect("half\n> 'whole'")
        terminal.enter("", '"whole"\n')
        # A line that fills several rows is drawn as a whole, and taken away as a whole.
        long = "#'" + "x" * 300 + "'"
        appear("print('above')", long)
        terminal.expect("above\n> #'xxx")
        terminal.enter("", "300\n")
        # An error that nobody waits for.
        appear("error('oh')", "7 *")
        terminal.expect("nobody joined: stdin:1: oh\n")
        terminal.expect("\n> 7 *")
        terminal.enter(" 6", "42\n")
        # What is said at once.
        appear("for i = 1, 100 do print('line ' .. i) end", "'still here'")
        for i in range(1, 101):
            terminal.expect(f"line {i}\n")
        terminal.expect("> 'still here'")
        terminal.enter("", '"still here"\n')


def test_half_a_line_in_front_of_the_prompt():
    with Terminal("-l", "evlua") as terminal:
        terminal.enter("do io.write('half a line') end", "\nhalf a line\n")
        terminal.enter("do io.stderr:write('half an error') end", "\nhalf an error\n")
        terminal.enter("", prompt="\n> ")  # nothing was printed since
        terminal.enter("1", "\n1\n")
        check("\n\n" not in terminal.text, terminal.text)


def test_what_tasks_print_while_typing():
    with Terminal("-l", "evlua") as terminal:
        terminal.enter("n = 0 ticker = evlua.every(0.005, function() n = n + 1 print('tick ' .. n) end)",
                       prompt="tick 1\n")
        terminal.type("ti" * 50)
        for _ in range(50):
            terminal.type("\t")  # asks, while what it asks prints
        terminal.type("\x15ticker:cancel()\r")
        terminal.expect("true\n")
        terminal.enter("'done'", '"done"\n')
        check(terminal.text.count("tick 1\n") == 1, terminal.text[:500])


def test_completion():
    with Terminal("-l", "evlua") as terminal:
        terminal.enter("evlua.sle\t(0)", "sleep(0)", "\ntrue\n")
        terminal.enter("object = setmetatable({own = 1}, {__index = setmetatable({parent = 2}, "
                       "{__index = {grandparent = 3}})})")
        terminal.enter("object.gra\t", "grandparent", "\n3\n")
        terminal.enter("object.par\t", "parent", "\n2\n")
        terminal.enter("object.o\t", "own", "\n1\n")
        terminal.enter("s = 'text'")
        terminal.enter("s:upp\t()", '"TEXT"')
        terminal.enter("task = evlua.spawn(evlua.sleep, 1000)")
        terminal.enter("task:stat\t()", '"waiting"')
        # Several: what they have in common, then the list.
        terminal.enter("first_one, first_other = 1, 2")
        terminal.type("fir\t\t")
        terminal.expect("first_o")
        terminal.expect("first_one")
        terminal.expect("first_other")
        terminal.enter("ther", "\n2\n")
        # No code is run for it, and nothing goes wrong.
        terminal.enter("trap = setmetatable({}, {__index = function() error('trap') end})")
        terminal.type("trap.x\t\ttrap.y.z\tnothing.at.all\t")
        terminal.type("\x03")
        terminal.expect("^C\n> ")
        terminal.enter("'fine'", '"fine"')


def test_editing():
    with Terminal() as terminal:
        terminal.enter("12\x7f3\x01'\x05'", '"13"')          # backspace, to the beginning, to the end
        terminal.enter("'ac'\x1b[D\x1b[Db", '"abc"')         # to the left
        terminal.enter("'äc'\x1b[D\x1b[D\x7fö", '"öc"')
        terminal.enter("\x1b[A\x1b[A", '"abc"')              # up
        terminal.enter("'x'\x15'y'", '"y"')                  # all away


def test_an_escape_alone_blocks_nobody():
    with Terminal("--workers", "1", "-l", "evlua") as terminal:
        terminal.enter("evlua.spawn(function() evlua.sleep(0.2) print('went on') end) return 1", "\n1\n")
        terminal.type("\x1b")
        terminal.expect("went on\n")


def test_history():
    state = tempfile.mkdtemp(dir=STATES.name)
    path = os.path.join(state, "evlua", "history")
    with Terminal(state=state) as terminal:
        terminal.enter("'remembered'", '"remembered"')
        terminal.type("\x04")
        check(terminal.end() == 0)
    check(os.stat(path).st_mode & 0o077 == 0 and os.listdir(os.path.dirname(path)) == ["history"])
    with Terminal(state=state) as terminal:
        terminal.enter("\x1b[A", '"remembered"')
    # It is bounded.
    with open(path, "a", encoding="utf-8") as f:
        f.writelines(f"line{i}\n" for i in range(5000))
    with Terminal(state=state) as terminal:
        terminal.enter("'last'", '"last"')
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
        check(len(lines) <= 1001 and lines[-1] == "'last'", len(lines), lines[-3:])
    # And done without where it cannot be.
    with Terminal(state="/proc/nowhere") as terminal:
        terminal.enter("'unkept'", '"unkept"')


def test_the_end():
    with Terminal() as terminal:
        terminal.type("os.exit(7)\r")
        check(terminal.end() == 7)
    with Terminal() as terminal:
        os.kill(terminal.pid, signal.SIGTERM)
        check(terminal.end() == 143 and terminal.is_as_before(), terminal.text)
    with Terminal("-l", "evlua") as terminal:
        terminal.type("evlua.spawn(function() evlua.sleep(0.1) os.exit(3) end)\r")
        check(terminal.end() == 3 and terminal.is_as_before(), "a task leaves while the prompt waits")
    with Terminal() as terminal:
        os.kill(terminal.pid, signal.SIGWINCH)
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.enter("1", "\n1\n")


main(globals())
