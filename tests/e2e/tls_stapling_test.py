"""OCSP responses: which are stapled, and for how long."""
import os
import shutil
import signal
import ssl
import subprocess
import time

from support import EVLUASERVER, LIMIT, check, eventually
from tls_support import APP, FOLDER, client, connect, facts, get, main, openssl, path, resumed, serve, serve_one


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


main(globals())
