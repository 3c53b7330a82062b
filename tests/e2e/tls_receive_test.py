"""What comes over TLS when nobody waits for it: parts of records, and the end."""
import random
import socket
import ssl
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, main, temporary

APP = temporary("""
local evlua = require "evlua"
return function(req, res)
  if req.path == "/busy" then
    local till = os.clock() + 0.004
    evlua.atomic(function() repeat until os.clock() > till end)
  end
  if req.path == "/gives_up" then evlua.timeout(0.003, req.read, req) end
  if req.path == "/body" then return res:text(assert(req:body())) end
  res:text("answer")
end
""")
BODY = b"x" * 10000


class Client:
    """What it seals, it need not send at once."""

    def __init__(self, port):
        self.plain = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.stream = ssl._create_unverified_context().wrap_bio(self.incoming, self.outgoing)
        self.until_done(self.stream.do_handshake)

    def until_done(self, step):
        while True:
            try:
                got = step()
                self.plain.sendall(self.outgoing.read())
                return got
            except ssl.SSLWantReadError:
                self.plain.sendall(self.outgoing.read())
                got = self.plain.recv(65536)
                check(got, "the connection has ended")
                self.incoming.write(got)

    def seal(self, data):
        self.stream.write(data)
        return self.outgoing.read()

    def end(self):
        try:
            self.stream.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def take_until(self, end):
        answer = b""
        while not answer.endswith(end):
            answer += self.until_done(lambda: self.stream.read(65536))
        return answer


def serve_both(*options):
    program = Program(EVLUASERVER, APP, "--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0",
                      "--tls-auto-dev", *options)
    return program, *(int(program.word_after(f"listening on {scheme}://127.0.0.1:")) for scheme in ("http", "https"))


def in_threads(*steps):
    """Returns when all have ended, or raises what one of them has."""
    raised = []

    def run(step):
        try:
            step()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_an_answer_does_not_wait_for_the_rest_of_a_record():
    """The handler gives up reading just when half of one comes: on workers with much to do, again and again."""
    program, plain, secure = serve_both("--workers", "2")
    clients_left = 6

    def keep_busy():
        with socket.create_connection(("127.0.0.1", plain), LIMIT) as connection:
            while clients_left:
                connection.sendall(b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
                check(connection.recv(1000).startswith(b"HTTP/1.1 200 "))

    def ask():
        nonlocal clients_left
        try:
            client = Client(secure)
            for _ in range(40):
                head = b"POST /gives_up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
                client.plain.sendall(client.seal(head))
                record = client.seal(BODY)
                time.sleep(random.uniform(0.001, 0.009))
                client.plain.sendall(record[:5000])
                client.take_until(b"answer")
                client.plain.sendall(record[5000:])
            client.plain.close()
        finally:
            clients_left -= 1

    with program:
        in_threads(keep_busy, keep_busy, *[ask] * clients_left)
        check(program.stop() == 0, program.text)


def test_an_end_that_comes_with_a_request_is_answered():
    program, _, port = serve_both("--workers", "1", "--keep-alive", "1000", "--body-timeout", "1000")
    with program:
        for head, rest, status in ((b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n", b"200"),
                                   (b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", b"abc", b"200"),
                                   (b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"abc", b"400"),
                                   (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"abc", b"200")):
            for apart in (False, True):
                client = Client(port)
                if apart:  # so that the handler may wait by then
                    client.plain.sendall(client.seal(head))
                    time.sleep(0.01)
                sealed = client.seal(rest if apart else head + rest)
                client.plain.sendall(sealed + client.end())
                answer = b""
                try:
                    while True:
                        answer += client.until_done(lambda: client.stream.read(65536))
                except ssl.SSLZeroReturnError:
                    pass
                check(answer.startswith(b"HTTP/1.1 " + status), head, apart, answer)
                client.plain.close()
        check(program.stop() == 0, program.text)


main(globals())
