"""Sessions are resumed, also behind a reload, and as long as the authority is trusted."""
import shutil
import signal
import ssl

from support import check
from tls_support import client, connect, get, main, path, resumed, serve, serve_one


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


main(globals())
