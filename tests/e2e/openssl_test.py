"""Our TLS beside an OpenSSL in the same process: LuaSec's, and libpq's, which would break each other's if names met."""
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

from support import EVLUASERVER, LIMIT, Program, check, main, temporary

APP = temporary("""
local socket, ssl, postgres = require "socket", require "ssl", require "luasql.postgres"
return function(req, res)
  local plain = assert(socket.connect("127.0.0.1", tonumber(req:query("echo"))))
  plain:settimeout(30)
  local secure = assert(ssl.wrap(plain, {mode = "client", protocol = "any", verify = "none"}))
  assert(secure:dohandshake())
  assert(secure:send("hello\\n"))
  local echoed = secure:receive("*l")
  secure:close()
  local _, message = postgres.postgres():connect(
    "sslmode=require host=127.0.0.1 connect_timeout=30 dbname=x user=u port=" .. req:query("postgres"))
  res:text(("%s|%s|%s"):format(req.tls.version, echoed, message))
end
""")
FOLDER = tempfile.mkdtemp()
CERTIFICATE, KEY = os.path.join(FOLDER, "c.pem"), os.path.join(FOLDER, "k.pem")


def listen(serve):
    """Answers each connection with serve(socket, context), in a thread of its own; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            serve(listener.accept()[0], context)
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def echo(plain, context):
    with context.wrap_socket(plain, server_side=True) as stream:
        stream.sendall(b"echo " + stream.recv(100))


def postgres(plain, context):
    """As far as PostgreSQL's protocol goes until it refuses a user."""
    plain.recv(8)
    plain.sendall(b"S")
    with context.wrap_socket(plain, server_side=True) as stream:
        stream.recv(1000)
        text = b"SFATAL\0C28000\0Mno entry, sorry\0\0"
        stream.sendall(b"E" + (len(text) + 4).to_bytes(4, "big") + text)


def test_three_at_once():
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", KEY, "-out", CERTIFICATE, "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"], check=True, capture_output=True, timeout=LIMIT)
    ports = f"echo={listen(echo)}&postgres={listen(postgres)}"
    # clang 14, looking for leaks, looks for thread-local data of libraries loaded later where there is none, and falls.
    options = os.environ.get("ASAN_OPTIONS", "") + ":intercept_tls_get_addr=0"
    with Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--tls-cert", CERTIFICATE, "--tls-key", KEY, "--workers",
                 "1", env=dict(os.environ, ASAN_OPTIONS=options)) as program:
        port = int(program.word_after("https://127.0.0.1:"))
        for _ in range(3):
            got = subprocess.run(["curl", "-sS", "--cacert", CERTIFICATE, f"https://localhost:{port}/?{ports}"],
                                 capture_output=True, text=True, timeout=LIMIT)
            check(got.stdout.startswith("TLSv1.3|echo hello|") and "no entry, sorry" in got.stdout, got, program.text)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
    os.remove(APP)
