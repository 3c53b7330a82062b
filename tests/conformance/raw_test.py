"""Raw requests from RFC 9110 and 9112, byte for byte, and what has to come back: cases/*.cases.

    == NAME | RFC 9112 6.3 | why            a case, and the section it is about
    first                                   it makes sense only at the start of a connection
    > GET / HTTP/1.1\\r\\n                    bytes to send: \\r \\n \\t \\0 \\\\ \\{ \\xHH, {text*N} repeats
    < 200 "body" Name:value !Name head *N   an answer: its status (200|501), body, a field, no such field;
                                            head: it has no body whatever it says; *N: that often; 100? if it comes
    < 400 close                             an answer that says that it is the last one, and is
    < end                                   nothing more, then the end of the connection
    < next                                  all before was answered, and the request behind it is answered as well
    or                                      what follows may come instead
    shut                                    the client ends its side

Behind each case, unless it shuts, a good request follows, so that the connection always ends: whatever a case hides or
leaves over shows in its answer. Bytes behind an answer in the middle are sent once that has come. Each case is played
whole, byte by byte, pipelined behind a good request, and in pieces on a connection that is kept.
"""
import pathlib
import random
import re
import socket
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from support import LIMIT, check, main, serve  # noqa: E402

FIRST = b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
BYTEWISE = 1000  # longer cases are cut at random
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.S)
REPEAT = re.compile(r"(?<!\\)\{((?:[^*\\]|\\.)*)\*(\d+)\}", re.S)
PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\", "{": "{", '"': '"'}
DATE = re.compile(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


# -- reading cases ----------------------------------------------------------------------------------------------------

def unescape(text):
    text = REPEAT.sub(lambda m: m[1] * int(m[2]), text)
    return ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else PLAIN[m[2]], text).encode("latin-1")


class Expected:
    """One line of what has to come back."""

    def __init__(self, text):
        words = re.findall(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+', text)
        self.text, first = text, words[0]
        self.next, self.end = first == "next", first == "end"
        self.optional = first.endswith("?")
        self.statuses = {int(word) for word in first.rstrip("?").split("|")} if first[0].isdigit() else {200}
        self.head, self.close, self.times, self.body, self.fields, self.absent = False, self.next, 1, None, {}, []
        if self.next:
            self.body = b"/next"
        for word in words[1:]:
            if word in ("head", "close"):
                setattr(self, word, True)
            elif word[0] == "*":
                self.times = int(word[1:])
            elif word[0] == '"':
                self.body = unescape(word[1:-1])
            elif word[0] == "!":
                self.absent.append(word[1:].lower().encode())
            else:
                name, value = word.split(":", 1)
                self.fields[name.lower().encode()] = unescape(value.strip('"'))
        self.ends = self.end or self.close


class Case:
    def __init__(self, where, line):
        self.name, self.section, self.why = (part.strip() for part in line.split("|", 2))
        self.where, self.first, self.shuts = where, False, False
        self.steps = []       # (bytes, what comes then, before the next bytes)
        self.outcomes = [[]]  # what comes in the end, one of them
        self.data = b""
        check(re.fullmatch(r"RFC \d+ [\dA-Z.]+", self.section) and self.why, where, "no section or no reason")

    def take(self, line):
        kind, rest = line[:1], line[2:]
        if kind == ">":
            if self.outcomes[-1]:
                self.steps.append((self.data, self.outcomes.pop()))
                self.outcomes, self.data = [[]], b""
            self.data += unescape(rest)
        elif kind == "<":
            self.outcomes[-1].append(Expected(rest))
        elif line == "or":
            self.outcomes.append([])
        elif line == "first":
            self.first = True
        elif line == "shut":
            self.shuts = True
        else:
            check(False, self.where, "what is this?", line)

    def finish(self):
        for outcome in self.outcomes:
            check(outcome and outcome[-1].ends, self.where, "the connection has to end")
        self.steps.append((self.data, []))
        return self


def read_cases():
    cases = []
    for path in sorted((HERE / "cases").glob("*.cases")):
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
            if line.startswith("=="):
                cases.append(Case(f"{path.name}:{number}", line[2:]))
            elif line and not line.startswith("#"):
                cases[-1].take(line)
    names = [case.name for case in cases]
    check(len(set(names)) == len(names), "names occur twice:", {n for n in names if names.count(n) > 1})
    return [case.finish() for case in cases]


# -- reading answers --------------------------------------------------------------------------------------------------

class Wrong(Exception):
    """What came is not what has to come."""


def demand(condition, *about):
    if not condition:
        raise Wrong(" ".join(str(part) for part in about))


class Answers:
    """What a connection sends, answer by answer; each has to be well-formed, whatever a case expects."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got, self.ended, self.reset = b"", False, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # an answer may have come before

    def more(self):
        if self.ended:
            return False
        try:
            got = self.socket.recv(65536)
        except ConnectionResetError:
            got, self.reset = b"", True
        self.got += got
        self.ended = not got
        return not self.ended

    def until(self, words):
        while words not in self.got:
            demand(self.more(), "the connection ended, and this had come:", self.got[:300])
        part, self.got = self.got.split(words, 1)
        return part

    def exactly(self, size):
        while len(self.got) < size:
            demand(self.more(), "the connection ended within a body")
        part, self.got = self.got[:size], self.got[size:]
        return part

    def chunks(self):
        body = b""
        while True:
            size = self.until(b"\r\n")
            demand(re.fullmatch(rb"[0-9a-f]{1,16}", size), "chunk size", size)
            body += self.exactly(int(size, 16))
            demand(self.exactly(2) == b"\r\n", "no CRLF behind a chunk")
            if int(size, 16) == 0:
                return body

    def head(self):
        lines = self.until(b"\r\n\r\n").split(b"\r\n")
        found = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [\t\x20-\x7e\x80-\xff]*", lines[0])
        demand(found, "status line", lines[0])
        fields = {}
        for line in lines[1:]:
            field = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)", line)
            demand(field, "field line", line)
            name = field[1].lower()
            demand(name not in fields, "twice:", line)  # true for what our app sends
            fields[name] = field[2].strip()
        return int(found[1]), fields

    def answer(self, to_head):
        status, fields = self.head()
        length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        demand(length is None or coding is None, status, "with two lengths")
        demand(coding in (None, b"chunked") and (length is None or length.isdigit()), status, "framing", fields)
        if status < 200:
            demand(length is None and coding is None, status, "has a length")
            return status, fields, b""
        demand(DATE.fullmatch(fields.get(b"date", b"")), status, "without a date", fields)
        if status == 204:
            demand(length is None and coding is None, "204 has a length")
        if status == 205:
            demand(length == b"0", "205 has to say that it is empty")
        if to_head or status in (204, 304):
            body = b""
        elif coding:
            body = self.chunks()
        elif length is not None:
            body = self.exactly(int(length))
        else:
            demand(fields.get(b"connection") == b"close", status, "has no end")
            while self.more():
                pass
            demand(not self.reset, status, "was cut")
            body, self.got = self.got, b""
        return status, fields, body

    def expect(self, line):
        for _ in range(line.times):
            status, fields, body = self.answer(line.head)
            about = (line.text, "- got", status, body[:100])
            demand(status in line.statuses, *about)
            demand(line.body is None or line.body == body, *about)
            for name, value in line.fields.items():
                demand(fields.get(name) == value, *about, name, fields.get(name))
            for name in line.absent:
                demand(name not in fields, *about, name, fields.get(name))
            demand(not line.close or fields.get(b"connection") == b"close", *about, "and may go on")

    def match(self, outcome):
        """All the rest."""
        for line in outcome:
            if line.end:
                continue
            if line.optional and not self.starts_with(line):
                continue
            self.expect(line)
        while self.more():
            pass
        demand(not self.got, "more than that:", self.got[:300])

    def starts_with(self, line):
        while b"\r\n" not in self.got and self.more():
            pass
        return any(self.got.startswith(b"HTTP/1.1 %d " % status) for status in line.statuses)

    def match_any(self, outcomes):
        if len(outcomes) == 1:
            return self.match(outcomes[0])
        while self.more():
            pass
        got, reasons = self.got, []
        for outcome in outcomes:
            self.got = got
            try:
                return self.match(outcome)
            except Wrong as wrong:
                reasons.append(str(wrong))
        raise Wrong(" / ".join(reasons))


# -- playing ----------------------------------------------------------------------------------------------------------

def whole(_, data):
    return [data]


def bytewise(dice, data):
    if len(data) > BYTEWISE:
        return pieces(dice, data)
    return [data[at:at + 1] for at in range(len(data))]


def pieces(dice, data):
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(min(len(data), 5)))
    return [data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)]) if a < b]


def play(port, case, cut, dice, behind=None):
    """`behind`: a good request comes first, "pipelined" or "answered"."""
    with Answers(port) as answers:
        before = b""
        good = Expected('200 "/first"')
        if behind == "pipelined":
            before = FIRST
        elif behind == "answered":
            answers.send(FIRST)
            answers.expect(good)
        for index, (data, then) in enumerate(case.steps):
            last = index == len(case.steps) - 1
            data = before + data + (NEXT if last and not case.shuts else b"")
            for piece in cut(dice, data):
                answers.send(piece)
            if before:
                answers.expect(good)
            before = b""
            for line in then:
                answers.expect(line)
        if case.shuts:
            answers.socket.shutdown(socket.SHUT_WR)
        answers.match_any(case.outcomes)


WAYS = (("whole", whole, None), ("byte by byte", bytewise, None), ("pipelined", whole, "pipelined"),
        ("kept", pieces, "answered"))


def play_all(port, cases, dice):
    wrong = []
    for case in cases:
        for name, cut, behind in WAYS:
            if behind and case.first:
                continue
            try:
                play(port, case, cut, dice, behind)
            except (Wrong, TimeoutError) as reason:
                wrong.append(f"{case.where} {case.name} ({case.section}: {case.why}), {name}: {reason}")
    return wrong


def test_cases():
    cases = read_cases()
    check(len(cases) >= 200, len(cases))
    seed = random.SystemRandom().randrange(2**32)
    print(f"{len(cases)} cases, seed {seed}", flush=True)
    program, port = serve(str(HERE / "app.lua"), "--workers", "1")
    with program:
        wrong = play_all(port, cases, random.Random(seed))
        check(not wrong, f"{len(wrong)} wrong:", *("\n  " + text for text in wrong))
        check(program.stop() == 0, program.text)


# -- every byte, everywhere -------------------------------------------------------------------------------------------

TOKEN = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
VISIBLE = set(range(0x21, 0x7f))
DIGITS, HEX = set(b"0123456789"), set(b"0123456789abcdefABCDEF")
TEXT = VISIBLE | set(b" \t") | set(range(0x80, 0x100))
REG_NAME = TOKEN - set(b"#^`|") | set(b"()=;")  # the comma joins fields, so it is left out; a percent sign needs digits
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

# Where a byte goes, what may go there, and with which answer what may not is refused.
PLACES = {
    "method": (b"GE%bT / HTTP/1.1\r\nHost: a\r\n\r\n", set(), TOKEN),  # an unknown method at best
    "before the target": (b"GET %b/ HTTP/1.1\r\nHost: a\r\n\r\n", set(b"/"), ()),
    "target": (b"GET /a%bb HTTP/1.1\r\nHost: a\r\n\r\n", VISIBLE - set(b"#"), ()),
    "version": (b"GET / HTTP/1%b.1\r\nHost: a\r\n\r\n", set(), ()),
    "end of the request line": (b"GET / HTTP/1.1%b\r\nHost: a\r\n\r\n", set(), ()),
    "start of a field line": (b"GET / HTTP/1.1\r\nHost: a\r\n%bX: y\r\n\r\n", TOKEN, ()),
    "field name": (b"GET / HTTP/1.1\r\nHost: a\r\nX%bY: z\r\n\r\n", TOKEN | set(b":"), ()),
    "before the colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX%b: y\r\n\r\n", TOKEN | set(b":"), ()),
    "field value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y%bz\r\n\r\n", TEXT, ()),
    "end of a field value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y%b\r\n\r\n", TEXT, ()),
    "host": (b"GET / HTTP/1.1\r\nHost: a%bb\r\n\r\n", REG_NAME - set(b"%"), ()),
    "port": (b"GET / HTTP/1.1\r\nHost: a:1%b\r\n\r\n", DIGITS | set(b" \t"), ()),
    "length": (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0%b\r\n\r\n", set(b" "), ()),
    "coding": (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked%b\r\n\r\n0\r\n\r\n", set(b" "), ()),
    "chunk size": (CHUNKED + b"%b\r\n", set(), ()),
    "behind a chunk size": (CHUNKED + b"0%b\r\n\r\n", set(b"0"), ()),
    "extension": (CHUNKED + b"0;a%b\r\n\r\n", TOKEN, ()),
    "quoted extension": (CHUNKED + b'0;a="%b"\r\n\r\n', TEXT - set(b'"\\'), ()),
    "behind a chunk": (CHUNKED + b"1\r\nx%b\r\n0\r\n\r\n", set(), ()),
    "trailer name": (CHUNKED + b"0\r\nX%bY: z\r\n\r\n", TOKEN | set(b":"), ()),
    "trailer value": (CHUNKED + b"0\r\nX: y%bz\r\n\r\n", TEXT, ()),
    "last line": (CHUNKED + b"0\r\n%b\r\n", set(), ()),
}


def test_every_byte():
    program, port = serve(str(HERE / "app.lua"), "--workers", "1")
    wrong = []
    with program:
        for place, (form, good, unknown) in PLACES.items():
            for value in range(256):
                outcome = "200" if value in good else "501 close" if value in unknown else "400 close"
                lines = [Expected(outcome)] + ([Expected("next")] if value in good else [])
                with Answers(port) as answers:
                    answers.send(form.replace(b"%b", bytes([value])) + NEXT)
                    try:
                        answers.match(lines)
                    except Wrong as reason:
                        wrong.append(f"{place}, byte {value:#x}: {reason}")
        check(not wrong, f"{len(wrong)} wrong:", *("\n  " + text for text in wrong))
        check(program.stop() == 0, program.text)


# -- other protocols --------------------------------------------------------------------------------------------------

def test_http2_preface():
    """RFC 9113 3.4: with prior knowledge a connection may begin in HTTP/2, in however many pieces."""
    program, port = serve(str(HERE / "app.lua"), "--workers", "1")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with program:
        for cut in (whole, bytewise):
            with Answers(port) as answers:
                for piece in cut(random.Random(1), preface):
                    answers.send(piece)
                frame = answers.exactly(9)
                check(frame[3] == 4 and frame[4] & 1 == 0 and frame[5:] == bytes(4), "not SETTINGS", frame)
        check(program.stop() == 0, program.text)


if __name__ == "__main__":
    main(globals())
