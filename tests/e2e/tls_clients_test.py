"""Certificates of clients: who is asked for one, and what the handler learns of it."""
import hashlib
import ssl
import subprocess

from support import EVLUASERVER, LIMIT, check
from tls_support import APP, client, connect, facts, get, main, openssl, path, serve_one


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


def test_client_certificates_need_https():
    wanted = ["--tls-client", "required", "--tls-client-ca", path("ca.pem")]
    for more in ([], ["--tls-auto-dev", "--listen", "http://127.0.0.1:0"]):
        got = subprocess.run([EVLUASERVER, APP, *wanted, *more], capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 2 and "--tls-client needs HTTPS" in got.stderr, got)
    program, _ = serve_one(*wanted, "--listen", "http://127.0.0.1:0")
    with program:
        check("http://127.0.0.1:0 is open to clients without a certificate" in program.text, program.text)
        check(program.stop() == 0, program.text)


main(globals())
