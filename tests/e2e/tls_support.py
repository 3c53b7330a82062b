"""What the tests of TLS share: an authority and its certificates, a server with them, and clients of it."""
import os
import shutil
import socket
import ssl
import subprocess
import tempfile

import support
from support import EVLUASERVER, LIMIT, Program, check, temporary

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


def resumed(port, context, session=None):
    with connect(port, context, session=session) as stream:
        seen = facts(get(stream))
        return seen["resumed"] == "true", stream.session


def main(scope):
    try:
        support.main(scope)
    finally:
        shutil.rmtree(FOLDER)
        os.remove(APP)
