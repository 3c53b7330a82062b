"""Random requests one after the other, and pipelined, on connections that are kept; cut into pieces at random, in the
clear and encrypted. Every answer is checked. EVLUA_SEED repeats a run."""
import os
import random
import socket
import ssl
import tempfile
import time

from support import EVLUASERVER, LIMIT, Program, check, main, temporary

APP = temporary("""
local evlua = require "evlua"
local answers = {
  ["/body"] = function(req, res) res:text(assert(req:body())) end,
  ["/deferred"] = function(req, res)
    evlua.sleep(0.001)
    res:text(assert(req:body()))
  end,
  ["/pieces"] = function(req, res)
    for piece in req:chunks() do assert(res:write(piece)) end
  end,
  ["/late"] = function(req, res)
    local first = evlua.timeout(0.001, req.read, req) or ""
    evlua.yield()
    res:text(first .. assert(req:body()))
  end,
  ["/slowly"] = function(req, res)
    local pieces = {}
    while true do
      local piece, message, code = evlua.timeout(0.0015, req.read, req, 500)
      if not piece and code == "EOF" then break end
      assert(piece or code == "ETIMEDOUT", message)
      pieces[#pieces + 1] = piece
      if #pieces % 20 == 0 then evlua.sleep(0.0002) end
    end
    res:text(table.concat(pieces))
  end,
  ["/weary"] = function(req, res)
    repeat until not evlua.timeout(0.001, req.read, req)
    res:text("early")
  end,
  ["/early"] = function(_, res) res:text("early") end,
  ["/large"] = function(_, res) res:text(("0123456789"):rep(20000)) end,
  ["/error"] = function() error "as it should" end,
}
return function(req, res) return answers[req.path](req, res) end
""")
SEED = int(os.environ.get("EVLUA_SEED") or random.SystemRandom().randrange(1 << 32))
BATCHES = 200
FILE = os.urandom(100_000)


class Sequence:
    def __init__(self, name, port, context=None):
        self.name, self.port, self.context = name, port, context
        self.dice = random.Random(f"{SEED} {name}")
        self.connect()

    def connect(self):
        self.connection = socket.create_connection(("127.0.0.1", self.port), LIMIT)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context:
            self.connection = self.context.wrap_socket(self.connection)
        self.input = b""

    def request(self):
        """Its bytes; what has to be answered: status and body; whether the connection may end."""
        path = self.dice.choice(("/body", "/body", "/deferred", "/pieces", "/late", "/slowly", "/weary", "/early",
                                 "/large", "/error", "/f"))
        if path == "/f" or self.dice.random() < 0.2:
            path = self.dice.choice(("/f/file", "/large", "/early"))
            return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), *self.expected(path, b""), False
        body = self.dice.randbytes(self.dice.choice((0, 1, 100, 5000, 20000, 60000)))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n"
        # Where the answer begins first, the rest of the body is not asked for any more.
        may_end = path in ("/early", "/weary", "/large", "/error")
        if self.dice.random() < 0.2:
            head += "Expect: 100-continue\r\n"
        if self.dice.random() < 0.5:
            sent = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        else:
            size = self.dice.choice((1000, 7000, 100000))
            parts = [body[at:at + size] for at in range(0, len(body), size)]
            sent = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
            sent += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        return sent, *self.expected(path, body), may_end

    @staticmethod
    def expected(path, body):
        fixed = {"/early": b"early", "/weary": b"early", "/large": b"0123456789" * 20000, "/f/file": FILE}
        return (500, None) if path == "/error" else (200, fixed.get(path, body))

    def send(self, data):
        cuts = sorted(self.dice.randrange(len(data) + 1) for _ in range(self.dice.choice((0, 0, 1, 2, 5))))
        for begin, end in zip([0] + cuts, cuts + [len(data)]):
            self.connection.sendall(data[begin:end])
            if self.dice.random() < 0.5:
                time.sleep(self.dice.choice((0, 0.0005, 0.002)))

    def more(self):
        got = self.connection.recv(65536)
        check(got, "the connection has ended")
        self.input += got

    def take(self, size):
        while len(self.input) < size:
            self.more()
        taken, self.input = self.input[:size], self.input[size:]
        return taken

    def take_until(self, end):
        while end not in self.input:
            self.more()
        return self.take(self.input.index(end) + len(end))

    def answer(self):
        head = self.take_until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 "):
            return self.answer()
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        status, ends = int(head.split(b" ", 2)[1]), fields.get(b"Connection") == b"close"
        if b"Content-Length" in fields:
            return status, self.take(int(fields[b"Content-Length"])), ends
        body = b""
        while size := int(self.take_until(b"\r\n"), 16):
            body += self.take(size)
            self.take(2)
        self.take(2)
        return status, body, ends

    def run(self):
        for number in range(BATCHES):
            batch = [self.request() for _ in range(self.dice.choice((1, 1, 1, 2, 4)))]
            try:
                self.send(b"".join(sent for sent, *_ in batch))
            except (BrokenPipeError, ConnectionResetError):
                pass  # the answers tell whether it may have ended
            for sent, status, body, may_end in batch:
                try:
                    got, came, ends = self.answer()
                except (OSError, AssertionError) as reason:
                    got, came, ends = reason, b"", False
                check(got == status and body in (None, came) and (may_end or not ends),
                      f"EVLUA_SEED={SEED}, {self.name}, batch {number}: {sent[:100]} got {got}, {came[:100]}, {ends}")
                if ends:  # rather than to read a body that nobody wants
                    self.connection.close()
                    self.connect()
                    break
        self.connection.close()


def test_sequences():
    print("seed", SEED, flush=True)
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "file"), "wb") as f:
        f.write(FILE)
    program = Program(EVLUASERVER, APP, "--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0",
                      "--tls-auto-dev", "--workers", "2", "--static", folder + "=/f")
    with program:
        context = {"http": None, "https": ssl._create_unverified_context()}
        for scheme in context:
            port = int(program.word_after(f"listening on {scheme}://127.0.0.1:"))
            for number in range(3):
                Sequence(f"{scheme} {number}", port, context[scheme]).run()
        program.stop()
    os.remove(os.path.join(folder, "file"))
    os.rmdir(folder)


main(globals())
