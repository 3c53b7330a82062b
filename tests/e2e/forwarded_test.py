"""Behind a proxy: the PROXY protocol, and Forwarded and X-Forwarded-* from those who are trusted."""
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from support import EVLUASERVER, LIMIT, Program, check, exchange, main, serve, temporary

APP = temporary("""
return function(req, res)
  if req.path == "/cookie" then res:cookie("a", "b") end
  res:text(("%s %s %s %s"):format(req.remote, req.local_address, req.scheme, req.host))
end
""")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEADER_1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n"
HEADER_2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 0xbb])
NAMED = "192.0.2.7:4660 10.0.0.1:443"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def request(*headers, path="/"):
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def read_all(s):
    answer = b""
    while True:
        try:
            got = s.recv(65536)
        except ConnectionError:
            return answer
        if not got:
            return answer
        answer += got


def body_of(answer):
    check(answer.startswith(b"HTTP/1.1 200"), answer)
    return answer.split(b"\r\n\r\n", 1)[1].decode()


def in_pieces(port, *pieces):
    """Sends one piece after the other, each in a segment of its own, and reads to the end."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            s.sendall(piece)
        return read_all(s)


def test_proxy_header():
    program, port = serve(APP, "--proxy-protocol", "10.0.0.0/8,127.0.0.1", "--workers", "1")
    with program:
        for header in (HEADER_1, HEADER_2, HEADER_2[:15] + b"\x10" + HEADER_2[16:] + b"\x04\0\1z"):
            expected = NAMED + " http x"
            check(body_of(in_pieces(port, header + REQUEST)) == expected, "in one segment", header)
            check(body_of(in_pieces(port, header, REQUEST)) == expected, "in two", header)
            check(body_of(in_pieces(port, *(bytes([b]) for b in header + REQUEST))) == expected, "in bytes", header)
            both = (header + REQUEST.replace(b"close", b"keep-alive") + REQUEST)
            check(in_pieces(port, both).count(expected.encode()) == 2, "a kept connection", header)
        v6 = b"PROXY TCP6 2001:db8::7 fd00::1 1 2\r\n"
        check(body_of(in_pieces(port, v6 + REQUEST)).startswith("[2001:db8::7]:1 [fd00::1]:2 "))
        paths = SIGNATURE + b"\x21\x31\0\xd8" + b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
        check(body_of(in_pieces(port, paths + REQUEST)).startswith("unix: unix:/run/b "))
        for own in (b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"):
            check(body_of(in_pieces(port, own + REQUEST)).startswith("127.0.0.1:"), own)
        check(program.stop() == 0, program.text)


def test_the_access_log_names_the_client():
    log = temporary("", ".log")
    for form, begin in (("combined", "{} - - ["), ("json", '"remote":"{}","request"')):
        program, port = serve(APP, "--trusted-proxy", "127.0.0.1", "--workers", "1", "--access-log", log,
                              "--access-log-format", form)
        with program:
            exchange(port, request("X-Forwarded-For: 192.0.2.7"))
            exchange(port, request("Forwarded: for=\"192.0.2.8:4711\""))
            exchange(port, request("Forwarded: for=\"[2001:db8::7]:5\""))
            exchange(port, request("Forwarded: for=_hidden"))
            exchange(port, request())
            exchange(port, b"X-Forwarded-For: 192.0.2.7\r\n\r\n")
            check(program.stop() == 0, program.text)
        with open(log) as f:
            lines = f.read().splitlines()
        expected = ("192.0.2.7", "192.0.2.8", "2001:db8::7", "_hidden", "127.0.0.1", "127.0.0.1")
        check(len(lines) == len(expected), lines)
        for line, client in zip(lines, expected):
            check(begin.format(client) in line, client, line)
        os.truncate(log, 0)
    os.remove(log)


def test_no_or_a_wrong_header():
    program, port = serve(APP, "--proxy-protocol", "127.0.0.1", "--workers", "1")
    with program:
        for start in (b"", b"PROXY NONSENSE\r\n", HEADER_1[:-2] + b" \r\n", SIGNATURE + b"\x21\x11\xff\xff",
                      SIGNATURE + b"\x11\x11\0\x0c" + b"x" * 12):
            check(in_pieces(port, start + REQUEST) == b"", start)
        check(exchange(port, HEADER_1[:20], shutdown=True) == b"")
        again = in_pieces(port, HEADER_1 + HEADER_1 + REQUEST)
        check(b"400 Bad Request" in again or b"501" in again, "only once", again)
        check(body_of(in_pieces(port, HEADER_1 + REQUEST)).startswith(NAMED))
        check(program.stop() == 0, program.text)


def test_from_others_there_is_none():
    for options in ((), ("--proxy-protocol", "10.0.0.0/8,::/0,unix:")):
        program, port = serve(APP, *options, "--workers", "1")
        with program:
            check(body_of(in_pieces(port, REQUEST)).startswith("127.0.0.1:"))
            for header in (HEADER_1, HEADER_2):
                answer = in_pieces(port, header + REQUEST)
                check(b"192.0.2.7" not in answer and not answer.startswith(b"HTTP/1.1 200"), answer)
            check(program.stop() == 0, program.text)


def test_it_stops_while_a_header_is_awaited():
    program, port = serve(APP, "--proxy-protocol", "127.0.0.1", "--workers", "1")
    with program, socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(HEADER_1[:10])
        check(body_of(in_pieces(port, HEADER_1 + REQUEST)).startswith(NAMED))
        began = time.monotonic()
        check(program.stop() == 0, program.text)
        check(time.monotonic() - began < 8, "it waited for the header, or for the grace period")
        check(read_all(s) == b"")


def test_a_header_that_does_not_come():
    program, port = serve(APP, "--proxy-protocol", "127.0.0.1", "--workers", "1", "--header-timeout", "0.5")
    with program, socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        began = time.monotonic()
        s.sendall(HEADER_2[:10])
        check(read_all(s) == b"")
        check(time.monotonic() - began > 0.4, "the header timeout is half a second")
        check(program.stop() == 0, program.text)


def test_unix_domain():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        program = Program(EVLUASERVER, APP, "--listen", "unix:" + path, "--proxy-protocol", "unix:")
        with program:
            program.wait_for("listening on")
            for start, expected in ((HEADER_1, NAMED), (HEADER_2, NAMED), (b"", "")):
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(LIMIT)
                    s.connect(path)
                    s.sendall(start + REQUEST)
                    check(read_all(s).decode().endswith(expected and expected + " http x"), start)
            check(program.stop() == 0, program.text)


def serve_https(*options):
    program = Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--tls-auto-dev", *options)
    return program, int(program.word_after("https://127.0.0.1:"))


def over_tls(port, header, with_hello):
    """Handshakes by hand, so that the header and the first record can share a segment."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        if not with_hello:
            s.sendall(header)
            header = b""

        def until(step):
            nonlocal header
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    s.sendall(header + outgoing.read())
                    header = b""
                    got = s.recv(65536)
                    check(got, "the server has gone")
                    incoming.write(got)

        until(tls.do_handshake)
        tls.write(REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.split(b"\r\n\r\n", 1)[1]:
            answer += until(lambda: tls.read(65536))
        return body_of(answer)


def test_tls():
    program, port = serve_https("--proxy-protocol", "127.0.0.1")
    with program:
        for header in (HEADER_1, HEADER_2):
            for with_hello in (True, False):
                check(over_tls(port, header, with_hello) == NAMED + " https x", header, with_hello)
        hint = in_pieces(port, HEADER_1 + REQUEST)
        check(b"This port speaks HTTPS" in hint, hint)
        check(in_pieces(port, REQUEST) == b"")
        check(program.stop() == 0, program.text)


def curl(*arguments):
    got = subprocess.run(["curl", "-sSk", "--max-time", str(LIMIT), *arguments], capture_output=True, text=True)
    check(got.returncode == 0, got.stderr)
    return got.stdout


def test_curl():
    if not shutil.which("curl") or "haproxy-protocol" not in curl("--help", "all"):
        print("curl does not know the PROXY protocol")
        return
    program, port = serve(APP, "--proxy-protocol", "127.0.0.1")
    with program:
        for version in ("--http1.1", "--http2-prior-knowledge"):
            address = f"127.0.0.1:{port}"
            got = curl(version, "--haproxy-protocol", f"http://{address}/").split()
            check(got[0].startswith("127.0.0.1:") and got[1:] == [address, "http", address], got)
        check(program.stop() == 0, program.text)
    program, port = serve_https("--proxy-protocol", "127.0.0.1", "--trusted-proxy", "127.0.0.1")
    with program:
        for version in ("--http1.1", "--http2"):
            url = f"https://127.0.0.1:{port}/"
            check(curl(version, "--haproxy-protocol", url).split()[2] == "https", version)
            header = "Forwarded: for=192.0.2.9;proto=http;host=example.org"
            got = curl(version, "--haproxy-protocol", "-H", header, url).split()
            check(got == ["192.0.2.9", f"127.0.0.1:{port}", "http", "example.org"], got)
        check(program.stop() == 0, program.text)


def test_trusted_proxy():
    program, port = serve(APP, "--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8", "--workers", "1")

    def ask(*headers, **more):
        return exchange(port, request(*headers, **more))

    def client(*headers):
        remote, _, scheme, host = body_of(ask(*headers)).split()
        return f"{remote if not remote.startswith('127.') else 'peer'} {scheme} {host}"

    with program:
        check(client() == "peer http x")
        check(client("Forwarded: for=192.0.2.43;proto=https;host=example.org") == "192.0.2.43 https example.org")
        check(client('Forwarded: for=6.6.6.6, for="[2001:db8::1]:80", for=10.0.0.2') == "[2001:db8::1]:80 http x")
        check(client("X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.2", "X-Forwarded-Proto: https",
                     "X-Forwarded-Host: example.org:8443") == "192.0.2.1 https example.org:8443")
        check(client("Forwarded: for=192.0.2.43", "X-Forwarded-For: 6.6.6.6") == "192.0.2.43 http x")
        check(client("Forwarded: for=_hidden") == "_hidden http x")
        check(client('Forwarded: for="192.0.2.43') == "peer http x")
        check(client("X-Forwarded-For: nonsense", "X-Forwarded-Proto: gopher") == "peer http x")
        long = "_" + "x" * 5000
        check(client("Forwarded: for=" + long) == "peer http x")
        check(b"Secure" in ask("Forwarded: for=192.0.2.1;proto=https", path="/cookie"))
        check(b"Secure" not in ask("Forwarded: for=192.0.2.1;proto=http", path="/cookie"))
        # One that ends TLS may say so in the target (RFC 9110, 7.4), unless it says otherwise.
        check(body_of(ask(path="https://x/")).endswith(" https x"))
        check(b"Secure" in ask(path="https://x/cookie"))
        check(body_of(ask("X-Forwarded-Proto: http", path="https://x/")).endswith(" http x"))
        kept = request("Forwarded: for=192.0.2.43").replace(b"close", b"keep-alive")
        answers = exchange(port, kept + request())
        check(answers.count(b"192.0.2.43 ") == 1 and answers.count(b"\r\n\r\n127.0.0.1:") == 1, answers)
        check(program.stop() == 0, program.text)


def test_others_are_not_believed():
    for options in ((), ("--trusted-proxy", "10.0.0.0/8,unix:")):
        program, port = serve(APP, *options, "--workers", "1")
        with program:
            told = body_of(exchange(port, request("Forwarded: for=192.0.2.43;proto=https;host=example.org",
                                                  "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https")))
            check(told.startswith("127.0.0.1:") and told.endswith(" http x"), told)
            check(exchange(port, request(path="https://x/")).startswith(b"HTTP/1.1 421 "), options)
            check(program.stop() == 0, program.text)


def test_both():
    """Trust is a matter of whom the PROXY header names."""
    program, port = serve(APP, "--proxy-protocol", "127.0.0.1", "--trusted-proxy", "192.0.2.7", "--workers", "1")
    with program:
        said = request("Forwarded: for=198.51.100.1;proto=https")
        check(body_of(in_pieces(port, HEADER_1 + said)) == "198.51.100.1 10.0.0.1:443 https x")
        other = HEADER_1.replace(b"192.0.2.7", b"192.0.2.8")
        check(body_of(in_pieces(port, other + said)) == "192.0.2.8:4660 10.0.0.1:443 http x")
        check(program.stop() == 0, program.text)


def test_wrong_lists():
    for option, value, words in (("--proxy-protocol", "localhost", "--proxy-protocol: 'localhost' is no address"),
                                 ("--trusted-proxy", "10.0.0.1/8", "--trusted-proxy: '10.0.0.1/8' has bits set"),
                                 ("--trusted-proxy", "10.0.0.0/40", "no length from 0 to 32")):
        got = subprocess.run([EVLUASERVER, APP, option, value], capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 2 and words in got.stderr, got)


try:
    main(globals())
finally:
    os.unlink(APP)
