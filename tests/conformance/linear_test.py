"""What is large costs in proportion: eight times as much of it takes about eight times the processor time, not
sixty-four times. The server's own time is compared, the smallest of a few runs, with a bound between the two."""
import os
import pathlib
import socket
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from attackers import DATA, HEADERS, PREFACE, SETTINGS, Frames, frame  # noqa: E402
from support import LIMIT, check, main, serve, temporary  # noqa: E402

APP = temporary("""
local acts = {}
function acts.query(req) return req:query("none") or #req:query_list("p") + (req:query().a and 1 or 0) end
function acts.cookie(req) return req:cookie("none") or "-" end
function acts.headers(req) return req:headers().x or "-" end
function acts.body(req) local body, _, code = req:body() return body and #body or code end
function acts.pieces(req)
  local size = 0
  for piece, _, code in req:chunks() do
    if not piece then return code end
    size = size + #piece
  end
  return size
end
function acts.form(req)
  local form, _, code = req:form()
  return form and (form.k or form.k1 or "-") or code
end
function acts.json(req)
  local value, _, code = req:json()
  return value and type(value) or code
end
return function(req, res)
  local act = acts[req.path:sub(2)]
  res:text(tostring(act and act(req) or "-"))
end
""")
FACTOR, BOUND, RUNS = 8, 40, 3  # eight times as much; 64 times for what is quadratic


def processor_time(program):
    """Nanoseconds of all threads so far."""
    total = 0
    tasks = f"/proc/{program.process.pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def talk(port, data):
    """All answers; sent from a thread, since the server does not read while nobody reads from it."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        def send():
            try:
                s.sendall(data)
            except OSError:
                pass  # refused before the end
        sender = threading.Thread(target=send)
        sender.start()
        answer = b""
        try:
            while got := s.recv(1 << 16):
                answer += got
        except ConnectionResetError:
            pass
        s.close()
        sender.join()
        return answer


def requests(times, target, fields="", body=""):
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\n{fields}"
    return (f"{head}\r\n{body}" * times + f"{head}Connection: close\r\n\r\n{body}").encode("latin-1")


def chunked(target, chunks, trailers=b""):
    return (b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            + chunks + b"0\r\n" + trailers + b"\r\n")


def posted(target, kind, text):
    return requests(0, target, f"Content-Type: application/{kind}\r\nContent-Length: {len(text)}\r\n", text)


def form(text):
    return posted("/form", "x-www-form-urlencoded", text)


def json(text):
    return posted("/json", "json", text)


def different(n, pattern, between):
    return between.join(pattern % i for i in range(n))


# name: (bytes to send for a size, a size, the status of every answer, how many answers)
CASES = {
    "field lines": (lambda n: requests(1000, "/", "a:\r\n" * n), 12, b"200", 1001),
    "field lines, looked at": (lambda n: requests(500, "/headers", "x:\r\n" * n), 12, b"200", 501),
    "field lines, refused": (lambda n: requests(0, "/", "a:\r\n" * n), 10_000, b"431", 1),
    "long fields": (lambda n: requests(300, "/", f"a: {'b' * n}\r\n"), 4000, b"200", 301),
    "blanks": (lambda n: requests(300, "/", f"a: {' ' * n}x\r\n"), 4000, b"200", 301),
    "options of a connection": (lambda n: requests(300, "/", f"Connection: {'a,' * n}\r\n"), 2000, b"200", 301),
    "codings, refused": (lambda n: requests(0, "/", f"Transfer-Encoding: {'a,' * n}chunked\r\n"), 1900, b"501", 1),
    "parameters": (lambda n: requests(100, "/query?" + "p&" * n), 500, b"200", 101),
    "cookies": (lambda n: requests(300, "/cookie", f"Cookie: {'a=b; ' * n}\r\n"), 800, b"200", 301),
    "empty lines": (lambda n: b"\r\n" * n + requests(0, "/"), 10_000, b"400", 1),
    "tiny chunks": (lambda n: chunked(b"/body", b"1\r\nx\r\n" * n), 10_000, b"200", 1),
    "tiny chunks, one by one": (lambda n: chunked(b"/pieces", b"1\r\nx\r\n" * n), 10_000, b"200", 1),
    "tiny chunks, not read": (lambda n: chunked(b"/", b"1\r\nx\r\n" * n), 4_000, b"200", 1),
    "extensions, refused": (lambda n: chunked(b"/body", b"1;a=b\r\nx\r\n" * n), 20_000, b"200", 1),
    "a long extension, refused": (lambda n: chunked(b"/body", b"1;" + b"a" * n + b"\r\nx\r\n"), 130_000, b"200", 1),
    "trailers, refused": (lambda n: chunked(b"/body", b"", b"a: b\r\n" * n), 20_000, b"200", 1),
    "a form of one name": (lambda n: form("k=v&" * n), 30_000, b"200", 1),
    "a form of many names": (lambda n: form(different(n, "k%d=v", "&")), 5_000, b"200", 1),
    "a form of nothing": (lambda n: form("&" * n), 120_000, b"200", 1),
    "a form of escapes": (lambda n: form("k=" + "%41+" * n), 30_000, b"200", 1),
    "a form of broken escapes": (lambda n: form("k=" + "%4%" * n), 40_000, b"200", 1),
    "a form that is too long": (lambda n: form("k" * n), 1_200_000, b"200", 1),
    "JSON: an array": (lambda n: json("[" + "1," * n + "1]"), 100_000, b"200", 1),
    "JSON: arrays of one": (lambda n: json("[" + "[1]," * n + "1]"), 30_000, b"200", 1),
    "JSON: many names": (lambda n: json("{" + different(n, '"k%d":1', ",") + "}"), 20_000, b"200", 1),
    "JSON: one name again and again": (lambda n: json("{" + '"k":1,' * n + '"k":1}'), 40_000, b"200", 1),
    "JSON: a long string": (lambda n: json('["' + "a" * n + '"]'), 1_000_000, b"200", 1),
    "JSON: escapes": (lambda n: json('["' + "\\u00e9\\n" * n + '"]'), 50_000, b"200", 1),
    "JSON: blanks": (lambda n: json(" " * n + "[]"), 1_000_000, b"200", 1),
    "JSON: a long number": (lambda n: json("[" + "1" * n + "]"), 100_000, b"200", 1),
    "JSON: a long fraction": (lambda n: json("[0." + "1" * n + "e-7]"), 100_000, b"200", 1),
    "JSON: brackets, refused": (lambda n: json("[" * n), 500_000, b"200", 1),
    "JSON: wrong at its end": (lambda n: json("[" + '"a",' * n + "}"), 50_000, b"200", 1),
}


def hpack_text(text):
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    coded, size = b"\x7f", size - 127
    while size >= 128:
        coded, size = coded + bytes([size % 128 | 128]), size >> 7
    return coded + bytes([size]) + text


def literal(name, value, kept=False):
    """A field, which HPACK's table keeps or not."""
    return (b"\x40" if kept else b"\0") + hpack_text(name) + hpack_text(value)


def head_frames(stream, path, fields):
    """HEADERS, and CONTINUATION for what is more than a frame may have."""
    block = b"\x82\x86" + literal(b":path", path) + literal(b":authority", b"x") + fields
    frames = b""
    for at in range(0, len(block), 16384):
        ends_stream, ends_head = int(at == 0), 4 if at + 16384 >= len(block) else 0
        frames += frame(CONTINUATION if at else HEADERS, ends_stream | ends_head, stream, block[at:at + 16384])
    return frames


CONTINUATION = 9
TOO_LARGE = b"Request Header Fields Too Large\n"
NAMED = b"\xbe"  # what HPACK's table took last
# name: (path, the fields of a size, a size, the body of every answer)
HTTP2_CASES = {
    "field lines": (b"/", lambda n: literal(b"a", b"") * n, 12, b"-"),
    "field lines, looked at": (b"/headers", lambda n: literal(b"x", b"y") * n, 12, None),
    "field lines, refused": (b"/", lambda n: literal(b"a", b"") * n, 1_500, TOO_LARGE),
    "long fields": (b"/", lambda n: literal(b"a", b"b" * n), 3_900, b"-"),
    "crumbs of a cookie": (b"/cookie", lambda n: literal(b"cookie", b"a=b") * n, 12, b"-"),
    "cookies": (b"/cookie", lambda n: literal(b"cookie", b"a=b; " * n + b"c=d"), 780, b"-"),
    "fields that are kept": (
        b"/", lambda n: b"".join(literal(b"a%d" % i, b"b" * 30, True) for i in range(n)), 12, b"-"),
    "fields that are named": (b"/", lambda n: literal(b"a", b"b", True) + NAMED * n, 12, b"-"),
    "fields that are named, refused": (b"/", lambda n: literal(b"a", b"b" * 3900, True) + NAMED * n, 1_500, TOO_LARGE),
}
HEADS, AT_ONCE = 200, 50


def http2_cost(program, port, data, body, name):
    """Of a connection with so many heads; `data(stream)`: one of them."""
    before = processor_time(program)
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(PREFACE + frame(SETTINGS))
        frames, asked = Frames(s), 0
        while asked < HEADS:
            s.sendall(b"".join(data(stream) for stream in range(2 * asked + 1, 2 * (asked + AT_ONCE), 2)))
            asked += AT_ONCE
            frames.until(lambda: sum(1 for kind, _, payload in frames.seen if kind == DATA and payload) == asked)
        answers = {payload for kind, _, payload in frames.seen if kind == DATA and payload}
        check(len(answers) == 1 and body in (None, *answers), name, answers)
    return processor_time(program) - before


def http1_cost(program, port, data, status, count, name):
    before = processor_time(program)
    answer = talk(port, data)
    spent = processor_time(program) - before
    got = answer.count(b"HTTP/1.1 ")
    check(got == count and answer.count(b"HTTP/1.1 " + status) == got, name, got, answer[:200])
    return spent


def check_linear(name, cost):
    """`cost(factor)`: the processor time of so many times as much."""
    small = min(cost(1) for _ in range(RUNS))
    large = min(cost(FACTOR) for _ in range(RUNS))
    print(f"  {name}: {small / 1e6:.2f} ms, {FACTOR} times as much {large / 1e6:.2f} ms", flush=True)
    # A millisecond is noise for what is refused at once.
    check(large < BOUND * max(small, 1_000_000), name, small, large)


def test_cost_is_linear():
    program, port = serve(APP, "--workers", "1")
    with program:
        talk(port, requests(2000, "/"))  # warm
        for name, (make, size, status, count) in CASES.items():
            check_linear(name, lambda factor: http1_cost(program, port, make(size * factor), status, count, name))
        check(program.stop() == 0, program.text)


def test_heads_of_http2_are_linear():
    program, port = serve(APP, "--workers", "1")
    with program:
        talk(port, requests(2000, "/"))
        for name, (path, make, size, body) in HTTP2_CASES.items():
            check_linear(name, lambda factor: http2_cost(
                program, port, lambda stream: head_frames(stream, path, make(size * factor)), body, name))
        check(program.stop() == 0, program.text)


def test_a_head_in_single_bytes():
    """Each byte that comes may cost a system call, and must not have the head looked through once more."""
    program, port = serve(APP, "--workers", "1")
    with program:
        def bytewise(factor):
            data = requests(0, "/", f"a: {'b' * 3_000 * factor}\r\n")
            before = processor_time(program)
            with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(data)):
                    s.send(data[at:at + 1])
                check(s.recv(100).startswith(b"HTTP/1.1 200"))
            return processor_time(program) - before

        check_linear("a head in single bytes", bytewise)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    os.unlink(APP)
