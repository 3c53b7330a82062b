"""Bodies over TLS: of requests that come in pieces and late, and of answers."""
import hashlib
import http.client
import os
import socket
import ssl
import time

from support import LIMIT, check
from tls_support import client, connect, curl, get, main, path, serve_one


def test_bodies():
    data = os.urandom(3_000_000)
    program, port = serve_one("--workers", "2")
    with program:
        with connect(port) as stream:
            check(hashlib.sha1(get(stream, "/big")).digest() == hashlib.sha1(b"0123456789abcdef" * (1 << 18)).digest())
        with open(path("upload"), "wb") as f:
            f.write(data)
        echoed = curl(port, "/echo", "--data-binary", "@" + path("upload"))
        check(hashlib.sha1(echoed).digest() == hashlib.sha1(data).digest(), "echo", len(echoed))
        for more in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
            size = curl(port, "/size", "--data-binary", "@" + path("upload"), *more)
            check(size == b"3000000", more, size)
        # A body that comes late, piece by piece, and a second request behind it in the same record.
        with connect(port) as stream:
            stream.sendall(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            time.sleep(0.2)
            stream.sendall(b"bodyGET /tls HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while got := stream.recv(65536):
                answer += got
            check(b"nil ETIMEDOUT body" in answer and b"version=TLSv1.3" in answer, answer)
        # Pipelined requests, sent byte by byte.
        with connect(port) as stream:
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n":
                stream.sendall(bytes([byte]))
            answer = b""
            while got := stream.recv(65536):
                answer += got
            check(answer.count(b"hello") == 2, answer)
        check(program.stop() == 0, program.text)


def test_bodies_in_pieces_on_a_connection_that_is_kept():
    """What comes of a body after the handler has asked for it, and before."""
    program, port = serve_one("--workers", "2")
    with program:
        connection = http.client.HTTPSConnection("localhost", port, timeout=LIMIT, context=client())
        for turn in range(60):
            connection.putrequest("POST", "/size")
            connection.putheader("Content-Length", "60000")
            connection.endheaders()
            for size in (1, 20000, 39999):
                time.sleep(turn % 3 / 1000)
                connection.send(bytes(size))
            check(connection.getresponse().read() == b"60000", turn)
        connection.close()
        check(program.stop() == 0, program.text)


def test_records_are_full():
    """A file is not sent in tiny ones, whatever buffers handshakes leave behind."""
    os.makedirs(path("static"))
    with open(path("static/large"), "wb") as f:
        f.write(os.urandom(1 << 20))
    program, port = serve_one("--workers", "1", "--static", path("static") + "=/static")
    with program:
        for _ in range(3):
            with connect(port) as stream:
                get(stream)
        with socket.create_connection(("127.0.0.1", port), LIMIT) as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            stream = client().wrap_bio(incoming, outgoing, server_hostname="one.test")
            sealed = 0

            def until_done(step):
                nonlocal sealed
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        got = plain.recv(65536)
                        check(got, "the connection ended")
                        sealed += len(got)
                        incoming.write(got)

            until_done(stream.do_handshake)
            stream.write(b"GET /static/large HTTP/1.1\r\nHost: x\r\n\r\n")
            plain_bytes = 0
            while plain_bytes < 1 << 20:
                plain_bytes += len(until_done(lambda: stream.read(65536)))
            check(sealed - plain_bytes < 5000, "bytes that are not of the file", sealed - plain_bytes)
        check(program.stop() == 0, program.text)


main(globals())
