"""evluaserver over TLS, against OpenSSL (in Python, curl and its own command): handshakes."""
import os
import select
import socket
import ssl
import subprocess
import time

from support import EVLUASERVER, LIMIT, Program, check, eventually
from tls_support import APP, client, connect, curl, facts, get, main, openssl, path, resumed, serve, serve_one


def test_versions_and_ciphers():
    program, port = serve_one()
    with program:
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            with connect(port, client(maximum_version=version, minimum_version=version)) as stream:
                seen = facts(get(stream))
                check(seen["version"] == name and seen["server_name"] == "one.test", seen)
                check("GCM" in seen["cipher"] or "CHACHA" in seen["cipher"], seen)
                check(seen["alpn"] == "nil" and seen["peer.subject"] == "nil", seen)
        weak = client(maximum_version=ssl.TLSVersion.TLSv1_2)
        for ciphers in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"):
            weak.set_ciphers(ciphers + ":@SECLEVEL=0")
            try:
                connect(port, weak).close()
                check(False, ciphers, "was accepted")
            except ssl.SSLError:
                pass
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        try:
            connect(port, old).close()
            check(False, "TLS 1.1 was accepted")
        except ssl.SSLError:
            pass
        check(program.stop() == 0, program.text)


def test_protocols():
    program, port = serve_one()
    with program:
        for option, agreed in (("--http2", "h2"), ("--http1.1", "http/1.1"), ("--no-alpn", "nil")):
            seen = facts(curl(port, "/tls", option))
            check(seen["alpn"] == agreed and seen["server_name"] == "localhost", option, seen)
            check(seen["cipher"].startswith("TLS_") and seen["resumed"] == "false", option, seen)
        check(program.stop() == 0, program.text)


def accepts(port, context):
    try:
        with connect(port, context) as stream:
            return stream.cipher()[0]
    except (ssl.SSLError, ConnectionResetError):
        return None


def test_nothing_weak_is_offered():
    program, port = serve("--tls-cert", path("one.pem"), "--tls-key", path("one.key"),
                          "--tls-cert", path("two.pem"), "--tls-key", path("two.key"))
    with program:
        # Every suite that OpenSSL knows, one by one.
        for name, key in (("one.test", "ECDSA"), ("a.two.test", "RSA")):
            every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
            accepted = set()
            for suite in every.get_ciphers():
                if suite["protocol"] == "TLSv1.3":
                    continue
                one = client(maximum_version=ssl.TLSVersion.TLSv1_2, check_hostname=False)
                one.set_ciphers(suite["name"] + ":@SECLEVEL=0")
                try:
                    with connect(port, one, name):
                        accepted.add(suite["name"])
                except (ssl.SSLError, ConnectionResetError):
                    pass
            check(accepted == {f"ECDHE-{key}-AES128-GCM-SHA256", f"ECDHE-{key}-AES256-GCM-SHA384",
                               f"ECDHE-{key}-CHACHA20-POLY1305"}, accepted)
        unknown = client()
        unknown.set_alpn_protocols(["spdy/3"])
        check(accepts(port, unknown) is None, "a protocol that we do not speak was agreed on")
        for curve, good in (("X25519", True), ("P-256", True), ("P-384", True), ("P-521", False), ("X448", False)):
            got = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-curves", curve],
                                 stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
            check((b"Cipher is TLS_" in got.stdout) == good, curve, got)
        check(program.stop() == 0, program.text)


class Talk:
    """`openssl s_client`, which has commands of one letter."""

    def __init__(self, port, *options):
        self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.text = b""

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait_for(self, words, count=1):
        deadline = time.monotonic() + LIMIT
        while self.text.count(words) < count:
            left = deadline - time.monotonic()
            check(left > 0 and select.select([self.process.stdout], [], [], left)[0], "no", words, self.text[-500:])
            got = os.read(self.process.stdout.fileno(), 65536)
            check(got, "ended without", words, self.text[-500:])
            self.text += got

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_keys_change_and_renegotiation_is_refused():
    program, port = serve_one()
    with program:
        request = b"GET /size HTTP/1.1\r\nHost: x\r\n\r\n"
        with Talk(port, "-tls1_3") as talk:
            talk.wait_for(b"Verify return code")
            for count in (1, 2, 3):
                talk.say(request)
                talk.wait_for(b"Content-Length: 1\r\n", count)
                talk.say(b"K\n")  # new keys, and the peer shall change its own
                talk.wait_for(b"KEYUPDATE", count)
        with Talk(port, "-tls1_2") as talk:
            talk.wait_for(b"Verify return code")
            talk.say(b"R\n")
            talk.wait_for(b"no renegotiation")
        with connect(port) as stream:
            check(get(stream, "/") == b"hello")
        check(program.stop() == 0, program.text)


def test_the_first_request_need_not_wait():
    """Nor where the client waits until the end of its handshake is acknowledged (Nagle), as Python's does."""
    program, port = serve_one()
    with program:
        least = LIMIT
        for _ in range(20):
            with connect(port) as stream:
                check(stream.version() == "TLSv1.3" and not stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                began = time.monotonic()
                stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                check(stream.recv(100).startswith(b"HTTP/1.1 200"))
                least = min(least, time.monotonic() - began)
        check(least < 0.03, "seconds from the handshake to the answer, at least:", least)
        check(program.stop() == 0, program.text)


def test_names():
    program, port = serve("--tls-cert", path("one.pem"), "--tls-key", path("one.key"),
                          "--tls-cert", path("two.pem"), "--tls-key", path("two.key"))
    with program:
        for name, common in (("one.test", "one.test"), ("A.Two.TEST", "two.test"), ("a.two.test", "two.test"),
                             ("a.b.two.test", "one.test"), ("nobody.test", "one.test"), (None, "one.test")):
            with connect(port, client(check_hostname=False), name) as stream:
                subject = dict(part[0] for part in stream.getpeercert()["subject"])
                check(subject["commonName"] == common, name, subject)
                check(get(stream, "/") == b"hello")
        check(program.stop() == 0, program.text)


def test_development_certificate():
    program, port = serve("--tls-auto-dev")
    with program:
        got = subprocess.run(["curl", "-sSk", f"https://localhost:{port}/"], capture_output=True, timeout=LIMIT).stdout
        check(got == b"hello", got)
        pem = ssl.get_server_certificate(("127.0.0.1", port))
        with open(path("dev.pem"), "w") as f:
            f.write(pem)
        got = subprocess.run(["curl", "-sS", "--cacert", path("dev.pem"), f"https://localhost:{port}/"],
                             capture_output=True, timeout=LIMIT)
        check(got.stdout == b"hello", got)
        check(program.stop() == 0, program.text)


def test_both_schemes():
    program = Program(EVLUASERVER, APP, "--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0",
                      "--tls-auto-dev")
    with program:
        plain = int(program.word_after("http://127.0.0.1:"))
        secure = int(program.word_after("https://127.0.0.1:"))
        with socket.create_connection(("127.0.0.1", plain), LIMIT) as stream:
            check(facts(get(stream))["version"] == "false")
        with socket.create_connection(("127.0.0.1", secure), LIMIT) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while got := stream.recv(65536):
                answer += got
            check(answer.startswith(b"HTTP/1.1 400") and b"HTTPS" in answer, answer)
        check(program.stop() == 0, program.text)


def test_garbage_within_a_handshake_is_answered_with_an_alert():
    context = client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose alerts can be read
    greeting = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), greeting, server_hostname="one.test").do_handshake()
    except ssl.SSLWantReadError:
        pass
    program, port = serve_one("--workers", "1")
    with program:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(greeting.read())
            answer = stream.recv(65536)
            stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                while got := stream.recv(65536):
                    answer += got
            except ConnectionResetError:
                pass
            check(b"HTTP/1.1" not in answer and answer[-7:-2] == b"\x15\x03\x03\0\x02", answer)
        check(program.stop() == 0, program.text)


def test_wrong_usage():
    one = ["--tls-cert", path("one.pem"), "--tls-key", path("one.key")]
    for code, words, arguments in (
            (2, "--tls-key", ["--tls-cert", path("one.pem")]),
            (2, "--tls-cert", ["--listen", "https://127.0.0.1:0"]),
            (2, "--tls-client-ca", [*one, "--tls-client", "required"]),
            (2, "--tls-client", [*one, "--tls-client", "perhaps", "--tls-client-ca", path("ca.pem")]),
            (1, "/none.pem", ["--tls-cert", "/none.pem", "--tls-key", path("one.key")]),
            (1, "does not belong", ["--tls-cert", path("one.pem"), "--tls-key", path("two.key")]),
            (1, "no certificate", ["--tls-cert", path("one.key"), "--tls-key", path("one.key")]),
            (1, "unencrypted PEM key", ["--tls-cert", path("one.pem"), "--tls-key", path("one.pem")]),
            (1, "no OCSP response", [*one, "--tls-ocsp", path("one.pem")]),
            (1, "no certificate", [*one, "--tls-client", "optional", "--tls-client-ca", path("one.key")])):
        got = subprocess.run([EVLUASERVER, APP, "--listen", "127.0.0.1:0", *arguments], capture_output=True, text=True,
                             timeout=LIMIT)
        check(got.returncode == code and words in got.stderr and got.stderr.count("\n") <= 2, arguments, got)


def open_descriptors(program):
    return len(os.listdir(f"/proc/{program.process.pid}/fd"))


def test_hostile_clients():
    program, port = serve_one("--workers", "2", "--grace", "1")
    with program:
        with connect(port) as stream:
            get(stream)
        before = open_descriptors(program)
        # A recorded ClientHello cut short, garbage, records that promise more than may come, a flood of empty records.
        hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            client().wrap_bio(*hello, server_hostname="one.test").do_handshake()
        except ssl.SSLWantReadError:
            pass
        greeting = hello[1].read()
        for bad in (greeting[:40], b"\x16\x03\x01\xff\xff" + b"x" * 70000, os.urandom(5000), b"\x80\x2e\x01\x00\x02",
                    b"\x16\x03\x01\x00\x00" * 1000, greeting + b"\x17\x03\x03\x00\x20" + os.urandom(32)):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
                try:
                    stream.sendall(bad)
                    stream.shutdown(socket.SHUT_WR)
                    while stream.recv(65536):
                        pass
                except OSError:
                    pass  # cut by the server
        # Gone in the middle of a body, of a response, and of a handshake.
        for _ in range(20):
            stream = connect(port)
            stream.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.close()
            stream = connect(port)
            stream.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            stream.recv(1000)
            stream.close()
            stream = socket.create_connection(("127.0.0.1", port), LIMIT)
            stream.sendall(greeting)
            stream.close()
        # Half-closed below TLS while the handler still reads.
        stream = connect(port)
        stream.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        socket.socket.shutdown(stream, socket.SHUT_WR)
        stream.close()
        eventually(lambda: open_descriptors(program) <= before, "no descriptor is left open")
        with connect(port) as stream:
            check(get(stream, "/") == b"hello")
        # An idle client and one in its handshake do not hold up the end.
        idle, slow = connect(port), socket.create_connection(("127.0.0.1", port), LIMIT)
        slow.sendall(greeting[:10])
        check(program.stop() == 0, program.text)
        idle.close()
        slow.close()


main(globals())
