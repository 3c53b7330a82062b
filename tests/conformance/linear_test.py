"""What is large costs in proportion: eight times as much of it takes about eight times the processor time, not
sixty-four times. The server's own time is compared, the smallest of a few runs, with a bound between the two."""
import os
import pathlib
import socket
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
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
}


def cost(program, port, data, status, count, name):
    least = None
    for _ in range(RUNS):
        before = processor_time(program)
        answer = talk(port, data)
        spent = processor_time(program) - before
        least = spent if least is None else min(least, spent)
        got = answer.count(b"HTTP/1.1 ")
        check(got == count and answer.count(b"HTTP/1.1 " + status) == got, name, got, answer[:200])
    return least


def test_cost_is_linear():
    program, port = serve(APP, "--workers", "1")
    with program:
        talk(port, requests(2000, "/"))  # warm
        for name, (make, size, status, count) in CASES.items():
            small = cost(program, port, make(size), status, count, name)
            large = cost(program, port, make(size * FACTOR), status, count, name)
            print(f"  {name}: {small / 1e6:.2f} ms, {FACTOR} times as much {large / 1e6:.2f} ms", flush=True)
            # A millisecond is noise for what is refused at once.
            check(large < BOUND * max(small, 1_000_000), name, small, large)
        check(program.stop() == 0, program.text)


def test_a_head_in_single_bytes():
    """Each byte that comes may cost a system call, and must not have the head looked through once more."""
    program, port = serve(APP, "--workers", "1")
    with program:
        def bytewise(size):
            data = requests(0, "/", f"a: {'b' * size}\r\n")
            before = processor_time(program)
            with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(data)):
                    s.send(data[at:at + 1])
                check(s.recv(100).startswith(b"HTTP/1.1 200"))
            return processor_time(program) - before

        small = min(bytewise(3_000) for _ in range(RUNS))
        large = min(bytewise(3_000 * FACTOR) for _ in range(RUNS))
        print(f"  {small / 1e6:.2f} ms, {FACTOR} times as much {large / 1e6:.2f} ms", flush=True)
        check(large < BOUND * max(small, 1_000_000), small, large)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    os.unlink(APP)
