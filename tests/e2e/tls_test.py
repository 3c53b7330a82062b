"""evluaserver over TLS, against OpenSSL (in Python, curl and its own command)."""
import hashlib
import http.client
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from support import EVLUASERVER, LIMIT, Program, check, eventually, main, temporary

APP = temporary("""
local evlua = require "evlua"
return function(req, res)
  if req.path == "/tls" then
    local t, lines = req.tls, {}
    for _, name in ipairs {"version", "cipher", "alpn", "server_name", "resumed"} do
      lines[#lines + 1] = name .. "=" .. tostring(t and t[name])
    end
    for _, name in ipairs {"subject", "issuer", "serial", "fingerprint", "not_before", "not_after"} do
      lines[#lines + 1] = "peer." .. name .. "=" .. tostring(t and t.peer and t.peer[name])
    end
    return res:text(table.concat(lines, "\\n"))
  end
  if req.path == "/pem" then return res:text(req.tls.peer.pem) end
  if req.path == "/echo" then
    evlua.sleep(0)
    for piece in req:chunks() do assert(res:write(piece)) end
    return
  end
  if req.path == "/size" then return res:text(tostring(#assert(req:body(1 << 30)))) end
  if req.path == "/big" then return res:text(("0123456789abcdef"):rep(1 << 18)) end
  if req.path == "/late" then
    local piece, message, code = evlua.timeout(0.05, req.read, req)
    evlua.sleep(0)
    return res:text(tostring(piece) .. " " .. tostring(code) .. " " .. tostring(req:read()))
  end
  res:text("hello")
end
""")
FOLDER = tempfile.mkdtemp()


def path(name):
    return os.path.join(FOLDER, name)


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=LIMIT).stdout


def make_certificate(name, subject, *more, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), authority=None):
    signed = ["-CA", path(authority + ".pem"), "-CAkey", path(authority + ".key")] if authority else []
    openssl("req", "-x509", "-newkey", *key, "-nodes", "-keyout", path(name + ".key"), "-out", path(name + ".pem"),
            "-days", "2", "-subj", subject, *signed, *(part for line in more for part in ("-addext", line)))


make_certificate("ca", "/CN=authority", "basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign")
make_certificate("one", "/CN=one.test", "subjectAltName=DNS:one.test,DNS:localhost,IP:127.0.0.1", authority="ca")
make_certificate("two", "/CN=two.test", "subjectAltName=DNS:*.two.test", authority="ca", key=("rsa:2048",))
make_certificate("next", "/CN=next.test", "subjectAltName=DNS:one.test", authority="ca")
make_certificate("ann", "/CN=ann/O=Example", "extendedKeyUsage=clientAuth", authority="ca")
make_certificate("other", "/CN=stranger")


def serve(*options, app=APP):
    program = Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", *options)
    return program, int(program.word_after("https://127.0.0.1:"))


def serve_one(*options):
    return serve("--tls-cert", path("one.pem"), "--tls-key", path("one.key"), *options)


def client(**changes):
    context = ssl.create_default_context(cafile=path("ca.pem"))
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def connect(port, context=None, name="one.test", session=None):
    plain = socket.create_connection(("127.0.0.1", port), LIMIT)
    return (context or client()).wrap_socket(plain, server_hostname=name, session=session)


def get(stream, target="/tls", body=b"", more=b"Connection: close\r\n"):
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    stream.sendall(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: x\r\n" + length + more + b"\r\n" + body)
    answer = b""
    while True:
        got = stream.recv(65536)
        if not got:
            break
        answer += got
    check(answer.startswith(b"HTTP/1.1 200"), answer[:200])
    return answer.split(b"\r\n\r\n", 1)[1]


def curl(port, target, *options):
    return subprocess.run(["curl", "-sS", "--cacert", path("ca.pem"), *options, f"https://localhost:{port}{target}"],
                          check=True, capture_output=True, timeout=LIMIT).stdout


def facts(text):
    return dict(line.split("=", 1) for line in text.decode().split("\n"))


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


def test_client_certificates():
    told = openssl("x509", "-in", path("ann.pem"), "-noout", "-serial", "-dates", "-dateopt", "iso_8601").decode()
    serial, *dates = (line.split("=")[1].replace(" ", "T") for line in told.splitlines())
    own = client()
    own.load_cert_chain(path("ann.pem"), path("ann.key"))
    stranger = client()
    stranger.load_cert_chain(path("other.pem"), path("other.key"))
    for mode in ("optional", "required"):
        program, port = serve_one("--tls-client", mode, "--tls-client-ca", path("ca.pem"))
        with program:
            with connect(port, own) as stream:
                seen = facts(get(stream))
                check(seen["peer.subject"] == "O=Example,CN=ann" and seen["peer.issuer"] == "CN=authority", seen)
                with open(path("ann.pem")) as f:
                    pem = f.read()
                check(seen["peer.fingerprint"] == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest(), seen)
                check(seen["peer.serial"] == serial.lower(), seen, serial)
                check([seen["peer.not_before"], seen["peer.not_after"]] == dates, seen, dates)
            with connect(port, own) as stream:
                check(get(stream, "/pem").decode() == pem)
            for context, allowed in ((client(), mode == "optional"), (stranger, False)):
                try:
                    with connect(port, context) as stream:
                        check(facts(get(stream))["peer.subject"] == "nil")
                    check(allowed, mode)
                except (ssl.SSLError, ConnectionResetError):
                    check(not allowed, mode)
            check(program.stop() == 0, program.text)


def test_nobody_is_asked_for_a_certificate_unless_told():
    for options, asked in (([], False), (["--tls-client", "off"], False),
                           (["--tls-client", "optional", "--tls-client-ca", path("ca.pem")], True)):
        program, port = serve_one(*options)
        with program:
            for version in ("-tls1_2", "-tls1_3"):
                got = openssl("s_client", "-connect", f"127.0.0.1:{port}", version, "-cert", path("ann.pem"), "-key",
                              path("ann.key"))
                check((b"No client certificate CA names sent" not in got) == asked, options, version, got)
            check(program.stop() == 0, program.text)


def resumed(port, context, session=None):
    with connect(port, context, session=session) as stream:
        seen = facts(get(stream))
        return seen["resumed"] == "true", stream.session


def test_sessions_outlive_a_reload():
    for name in ("pem", "key"):
        shutil.copy(path("one." + name), path("live." + name))
    program, port = serve("--tls-cert", path("live.pem"), "--tls-key", path("live.key"), "--workers", "2")
    with program:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client(maximum_version=version, check_hostname=False)
            first, session = resumed(port, context)
            again, session = resumed(port, context, session)
            check(not first and again, version)
            # Another certificate, by SIGHUP; a connection lasts.
            lasting = connect(port)
            for name in ("pem", "key"):
                shutil.copy(path("next." + name), path("live." + name))
            program.text = ""
            program.process.send_signal(signal.SIGHUP)
            program.wait_for("certificates read again")
            check(get(lasting, "/") == b"hello")
            again, session = resumed(port, context, session)
            check(again, version, "after the reload")
            with connect(port, client(check_hostname=False)) as stream:
                check(("commonName", "next.test") in [part[0] for part in stream.getpeercert()["subject"]])
            for name in ("pem", "key"):
                shutil.copy(path("one." + name), path("live." + name))
            program.text = ""
            program.wait_for("certificates read again")  # noticed without a signal
        # Files that do not fit change nothing.
        shutil.copy(path("two.key"), path("live.key"))
        program.text = ""
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("does not belong to the certificate")
        with connect(port) as stream:
            check(get(stream, "/") == b"hello")
        check(program.stop() == 0, program.text)


def test_sessions_end_with_the_authority_that_vouched():
    shutil.copy(path("ca.pem"), path("trusted.pem"))
    program, port = serve_one("--tls-client", "required", "--tls-client-ca", path("trusted.pem"), "--workers", "2")
    with program:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            own = client(maximum_version=version)
            own.load_cert_chain(path("ann.pem"), path("ann.key"))
            _, session = resumed(port, own)
            again, session = resumed(port, own, session)
            check(again, version)
            # Nobody trusts her any more, whatever her ticket says.
            for authority, allowed in (("other.pem", False), ("ca.pem", True)):
                shutil.copy(path(authority), path("trusted.pem"))
                program.text = ""
                program.process.send_signal(signal.SIGHUP)
                program.wait_for("certificates read again")
                try:
                    resumed(port, own, session)
                    check(allowed, version, "a session outlived its authority")
                except (ssl.SSLError, ConnectionError, AssertionError) as error:
                    check(not allowed and "outlived" not in str(error), version, error)
        check(program.stop() == 0, program.text)


def ocsp_time(seconds):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds))


def make_response(name, certificate, state="V", digest="-sha1", until=None):
    """What the authority says of a certificate. `until`: it ends then; the signature does not count that in."""
    serial = openssl("x509", "-in", path(certificate + ".pem"), "-noout", "-serial").decode().strip().split("=")[1]
    revoked = time.strftime("%y%m%d%H%M%SZ", time.gmtime()) + ",keyCompromise" if state == "R" else ""
    expires = time.strftime("%y%m%d%H%M%SZ", time.gmtime(time.time() + 86400))
    with open(path("index.txt"), "w") as f:
        f.write(f"{state}\t{expires}\t{revoked}\t{serial}\tunknown\t/CN={certificate}.test\n")
    openssl("ocsp", digest, "-issuer", path("ca.pem"), "-cert", path(certificate + ".pem"), "-no_nonce",
            "-reqout", path("request.der"))
    openssl("ocsp", "-index", path("index.txt"), "-CA", path("ca.pem"), "-rsigner", path("ca.pem"),
            "-rkey", path("ca.key"), "-reqin", path("request.der"), "-ndays", "3", "-respout", path("response.der"))
    with open(path("response.der"), "rb") as f:
        response = f.read()
    if until:
        text = openssl("ocsp", "-respin", path("response.der"), "-text", "-noverify").decode()
        said = time.strptime(text.split("Next Update: ")[1].split("\n")[0], "%b %d %H:%M:%S %Y %Z")
        response = response.replace(time.strftime("%Y%m%d%H%M%SZ", said).encode(), ocsp_time(until).encode())
    with open(path(name + ".new"), "wb") as f:
        f.write(response)
    os.rename(path(name + ".new"), path(name))


def stapled(port, *options):
    got = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-status", "-CAfile", path("ca.pem"),
                          *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT).stdout
    check(b"BEGIN CERTIFICATE" in got, got)
    if b"OCSP response: no response sent" in got:
        return None
    return got.split(b"Cert Status: ")[1].split(b"\n")[0].decode()


def test_stapling():
    for digest in ("-sha1", "-sha256"):
        make_response("staple.der", "one", digest=digest)
        program, port = serve_one("--tls-ocsp", path("staple.der"))
        with program:
            check(stapled(port) == "good" and stapled(port, "-tls1_2") == "good", digest)
            check("OCSP" not in program.text and "stapled" not in program.text, program.text)
            if digest == "-sha256":  # it is read again
                for state, certificate, until, expected, words in (
                        ("R", "one", None, "revoked", "says that the certificate is revoked"),
                        ("V", "one", time.time() - 60, None, "staple.der' is not stapled: it has expired"),
                        ("V", "two", None, None, "staple.der' is not stapled: it is for another certificate"),
                        ("V", "one", None, "good", "certificates read again")):
                    program.text = ""
                    make_response("staple.der", certificate, state, until=until)
                    program.process.send_signal(signal.SIGHUP)
                    program.wait_for("certificates read again")
                    check(words in program.text and stapled(port) == expected, expected, program.text)
            check(program.stop() == 0, program.text)


def test_each_certificate_has_its_own_response():
    make_response("one.der", "one")
    make_response("two.der", "two", "R")
    program, port = serve("--tls-cert", path("one.pem"), "--tls-key", path("one.key"), "--tls-ocsp", path("one.der"),
                          "--tls-cert", path("two.pem"), "--tls-key", path("two.key"), "--tls-ocsp", path("two.der"))
    with program:
        check(stapled(port, "-servername", "one.test") == "good")
        check(stapled(port, "-servername", "a.two.test") == "revoked")
        check(program.stop() == 0, program.text)


def test_what_is_of_no_use_is_not_stapled():
    def refused(words):
        program, port = serve_one("--tls-ocsp", path("staple.der"))
        with program:
            check(stapled(port) is None and f"staple.der' is not stapled: {words}" in program.text, program.text)
            check(program.stop() == 0, program.text)

    with open(path("staple.der"), "wb") as f:
        f.write(b"\x30\x03\x0a\x01\x01")  # OCSPResponse { malformedRequest }
    refused("who was asked gave no answer (status 1)")
    make_response("staple.der", "two")
    refused("it is for another certificate")
    make_response("staple.der", "one", until=time.time() - 60)
    refused("it has expired")
    # Cut or broken anywhere: refused, as a key that does not fit would be, or of no use.
    make_response("staple.der", "one")
    with open(path("staple.der"), "rb") as f:
        whole = f.read()
    for size in (0, 1, 5, len(whole) // 3, len(whole) - 1):
        with open(path("staple.der"), "wb") as f:
            f.write(whole[:size])
        got = subprocess.run([EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--tls-cert", path("one.pem"), "--tls-key",
                              path("one.key"), "--tls-ocsp", path("staple.der")], capture_output=True, text=True,
                             timeout=LIMIT)
        check(got.returncode == 1 and "no OCSP response in DER form" in got.stderr, size, got)


def wait_until_expired(program, port):
    check(stapled(port) == "good" or "it has expired" in program.wait_for("expired"), program.text)
    program.wait_for("staple.der' is not stapled: it has expired")
    eventually(lambda: stapled(port) is None, "it is not stapled any more")


def test_a_response_is_stapled_until_it_expires():
    make_response("staple.der", "one", until=time.time() + 20)
    program, port = serve_one("--tls-ocsp", path("staple.der"))
    with program:
        wait_until_expired(program, port)
        make_response("staple.der", "one")  # its folder is looked at
        eventually(lambda: stapled(port) == "good", "it is read again")
        check(program.stop() == 0, program.text)


def test_responses_are_read_without_the_key():
    """Which only root may read, or which is gone: what is stapled follows its file, and all else is as it was."""
    shutil.copy(path("one.key"), path("gone.key"))
    make_response("staple.der", "one")
    program, port = serve("--tls-cert", path("one.pem"), "--tls-key", path("gone.key"), "--tls-client", "required",
                          "--tls-client-ca", path("ca.pem"), "--tls-ocsp", path("staple.der"))
    ann = ("-cert", path("ann.pem"), "-key", path("ann.key"))
    context = client()
    context.load_cert_chain(path("ann.pem"), path("ann.key"))
    with program:
        check(stapled(port, *ann) == "good")
        _, session = resumed(port, context)
        os.unlink(path("gone.key"))
        for state, words in (("R", "certificates stay as they were: cannot read"), ("V", "OCSP responses read again")):
            make_response("staple.der", "one", state)
            program.wait_for(words)
            wanted = {"R": "revoked", "V": "good"}[state]
            eventually(lambda: stapled(port, *ann) == wanted, "it is read again")
        check(resumed(port, context, session)[0], "its sessions are good")
        with connect(port, context) as stream:
            check(facts(get(stream))["peer.subject"] == "O=Example,CN=ann")
        try:
            with connect(port) as stream:
                get(stream)
            check(False, "nobody was asked for a certificate")
        except (ssl.SSLError, ConnectionError):
            pass
        with open(path("staple.der"), "wb") as f:
            f.write(b"cut")
        program.wait_for("the OCSP response stays as it was: '" + path("staple.der") + "' is no OCSP response")
        check(stapled(port, *ann) == "good")
        check(program.stop() == 0, program.text)


def test_an_expired_response_is_not_stapled_for_want_of_a_key():
    if os.geteuid() != 0:
        return
    os.chmod(FOLDER, 0o755)
    for name in (APP, path("one.pem")):
        os.chmod(name, 0o644)
    make_response("staple.der", "one", until=time.time() + 20)
    program, port = serve_one("--tls-ocsp", path("staple.der"), "--user", "nobody")
    with program:
        wait_until_expired(program, port)
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


def test_client_certificates_need_https():
    wanted = ["--tls-client", "required", "--tls-client-ca", path("ca.pem")]
    for more in ([], ["--tls-auto-dev", "--listen", "http://127.0.0.1:0"]):
        got = subprocess.run([EVLUASERVER, APP, *wanted, *more], capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 2 and "--tls-client needs HTTPS" in got.stderr, got)
    program, _ = serve_one(*wanted, "--listen", "http://127.0.0.1:0")
    with program:
        check("http://127.0.0.1:0 is open to clients without a certificate" in program.text, program.text)
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


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
    os.remove(APP)
