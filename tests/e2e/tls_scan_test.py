"""evluaserver's TLS as those see it who look for weaknesses: sslscan, and testssl.sh."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree

from support import EVLUASERVER, LIMIT, SANITIZED, Program, check, main, temporary

APP = temporary('return function(req, res) res:text("hello") end\n')
FOLDER = tempfile.mkdtemp()
GOOD_SUITES = re.compile(r"TLS_(AES_(128|256)_GCM|CHACHA20_POLY1305)_SHA(256|384)"
                         r"|ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)")


def path(name):
    return os.path.join(FOLDER, name)


def serve(*options):
    program = Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", *options)
    return program, "127.0.0.1:" + program.word_after("https://127.0.0.1:")


def rsa_certificate():
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path("rsa.key"), "-out",
                    path("rsa.pem"), "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True,
                   timeout=LIMIT)
    return "--tls-cert", path("rsa.pem"), "--tls-key", path("rsa.key")


def look(address):
    subprocess.run(["sslscan", "--xml=" + path("scan.xml"), address], check=True, capture_output=True, timeout=LIMIT)
    found = xml.etree.ElementTree.parse(path("scan.xml")).find("ssltest")
    versions = {(e.get("type") + e.get("version")): e.get("enabled") for e in found.iter("protocol")}
    check(versions == {"ssl2": "0", "ssl3": "0", "tls1.0": "0", "tls1.1": "0", "tls1.2": "1", "tls1.3": "1"}, versions)
    suites = [(e.get("sslversion"), e.get("cipher"), e.get("strength")) for e in found.iter("cipher")]
    check({version for version, _, _ in suites} == {"TLSv1.2", "TLSv1.3"} and len(suites) == 6, suites)
    for _, name, strength in suites:
        check(GOOD_SUITES.fullmatch(name) and strength in ("strong", "acceptable"), name, strength)
    groups = {(e.get("sslversion"), e.get("name").split()[0]) for e in found.iter("group")}
    check(groups == {(version, name) for version in ("TLSv1.2", "TLSv1.3")
                     for name in ("x25519", "secp256r1", "secp384r1")}, groups)
    heartbleed = [e.get("vulnerable") for e in found.iter("heartbleed")]
    check(heartbleed == ["0", "0"], heartbleed)
    check(found.find("renegotiation").get("supported") == "0", "it can be renegotiated")
    check(not [e for e in found.iter("compression") if e.get("supported") != "0"], "it compresses")


def test_sslscan():
    for options in (("--tls-auto-dev",), rsa_certificate(), ("--tls-auto-dev", "--no-http2", "--compress", "5")):
        program, address = serve(*options)
        with program:
            look(address)
            check(program.stop() == 0, program.text)


def test_testssl():
    """A minute of shell, or several where others run: once is enough, and TLS is the same on both backends."""
    if SANITIZED or os.environ.get("EVLUA_BACKEND") != "libev":
        return
    program, address = serve("--tls-auto-dev")
    with program:
        subprocess.run(["testssl", "--quiet", "--fast", "--color", "0", "--warnings", "batch", "--vulnerable",
                        "--jsonfile", path("testssl.json"), address], capture_output=True, timeout=850)
        check(program.stop() == 0, program.text)
    with open(path("testssl.json"), encoding="utf-8") as file:
        found = {entry["id"]: entry for entry in json.load(file)}
    asked = {"heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_renego", "secure_client_renego", "CRIME_TLS",
             "BREACH", "POODLE_SSL", "fallback_SCSV", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13"}
    check(asked <= set(found), "not all was looked at:", asked - set(found))
    for name in asked:
        check(found[name]["severity"] == "OK", found[name])
    bad = [entry for entry in found.values() if entry["severity"] not in ("OK", "INFO", "WARN")]
    check(not bad, bad)  # a warning is about OpenSSL here, which cannot ask for what is long gone


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
    os.remove(APP)
