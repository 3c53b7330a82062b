"""Encoded request bodies and trailers, as Lua reads them: HTTP/1 and HTTP/2, in the clear and encrypted."""
import gzip
import os
import re
import socket
import ssl
import subprocess
import zlib

from support import EVLUASERVER, LIMIT, Program, check, exchange, main, serve, temporary

TEXT = ("The quick brown fox jumps over the lazy dog. " * 3000).encode()
APP = temporary("""
local function failed(res, message, code)
  return res:status(code == "ELIMIT" and 413 or code == "EINVAL" and 415 or 400):text(code .. ": " .. message)
end
local function fields(t)
  local lines = {}
  for name, value in pairs(t) do lines[#lines + 1] = name .. "=" .. value end
  table.sort(lines)
  return table.concat(lines, " ")
end
return function(req, res)
  if req.path == "/text" then
    return res:text(("The quick brown fox jumps over the lazy dog. "):rep(3000))
  elseif req.path == "/body" then
    local body, message, code = req:body(tonumber(req:query("limit") or nil))
    if not body then return failed(res, message, code) end
    return res:send(body)
  elseif req.path == "/raw" then
    return res:send(assert(req:decode(false):body()))
  elseif req.path == "/read" then
    local size, most = 0, tonumber(req:query("n"))
    while true do
      local piece, message, code = req:read(most)
      if not piece then
        if code ~= "EOF" then return failed(res, message, code) end
        return res:text(tostring(size))
      end
      assert(#piece > 0 and #piece <= most)
      size = size + #piece
    end
  elseif req.path == "/chunks" then
    local size = 0
    local ok, message = pcall(function() for piece in req:chunks() do size = size + #piece end end)
    return res:text(size .. " " .. (ok and "ok" or message))
  elseif req.path == "/ignore" then
    return res:text("ignored")
  elseif req.path == "/json" then
    local value, message, code = req:json()
    if value == nil then return res:status(400):text(code .. ": " .. message) end
    return res:json(value)
  elseif req.path == "/form" then
    local form, message, code = req:form()
    if not form then return failed(res, message, code) end
    return res:text(fields(form))
  elseif req.path == "/late" then
    local why = {}
    req:read(1)
    for _, flag in ipairs{true, false} do
      local ok, message = pcall(req.decode, req, flag)
      why[#why + 1] = tostring(ok) .. " " .. tostring(message)
    end
    assert(not pcall(req.decode, req) and not pcall(req.decode, req, 1))
    return res:text(table.concat(why, "\\n"))
  elseif req.path == "/trailers" then
    assert(select(3, req:trailer("x-a")) == "EAGAIN" and select(3, req:trailers()) == "EAGAIN")
    local body, _, code = req:body()
    if not body then
      assert(select(3, req:trailer("x-a")) == "EPROTO" and select(3, req:trailers()) == "EPROTO")
      return res:text(code .. " and no trailers")
    end
    for name in pairs(req:trailers()) do assert(not req:header(name), name) end
    assert(req:trailer("no-such") == nil and select("#", req:trailer("no-such")) == 1)
    return res:text(("%d|%s|%s"):format(#body, tostring(req:trailer("X-A")), fields(req:trailers())))
  end
  assert(req:trailer("x-a") == nil and next(req:trailers()) == nil)    -- a request without a body has none
  res:text("hello")
end
""")
ENCODED = temporary("")


def compress(coding):
    if coding in ("gzip", "x-gzip"):
        return gzip.compress(TEXT)
    if coding == "deflate":
        return zlib.compress(TEXT)
    return subprocess.run(["zstd", "-qc"], input=TEXT, capture_output=True, check=True).stdout


def curl(port, target, *options, data=None, scheme="http"):
    """Status and body."""
    if data is not None:
        with open(ENCODED, "wb") as f:
            f.write(data)
        options += ("--data-binary", "@" + ENCODED)
    got = subprocess.run(["curl", "-sSk", "-w", "%{stderr}%{http_code}", *options,
                          f"{scheme}://127.0.0.1:{port}{target}"], capture_output=True, timeout=LIMIT)
    check(got.returncode == 0, got)
    return int(got.stderr), got.stdout


def nghttp(url, data, *trailers, headers=()):
    """The body, also of an answer that comes before the request is complete: curl takes that for an error."""
    with open(ENCODED, "wb") as f:
        f.write(data)
    options = [word for field in trailers for word in ("--trailer", field)]
    options += [word for field in headers for word in ("-H", field)]
    return subprocess.run(["nghttp", "-y", *options, "-d", ENCODED, url], capture_output=True, timeout=LIMIT).stdout


def encoding(name):
    return ["-H", "Content-Encoding: " + name]


def serve_tls(*options):
    program = Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--tls-auto-dev", *options)
    return program, int(program.word_after("https://127.0.0.1:"))


WAYS = (("http", ["--http1.1"]), ("http", ["--http1.1", "-H", "Transfer-Encoding: chunked"]), ("http", ["--http1.0"]),
        ("http", ["--http2-prior-knowledge"]), ("https", ["--http1.1"]), ("https", ["--http2"]))


def test_codings():
    plain, plain_port = serve(APP, "--workers", "2", "--compress", "5")
    secure, secure_port = serve_tls("--workers", "2")
    with plain, secure:
        # Brotli's encoder is the server's own.
        status, brotli = curl(plain_port, "/text", "-H", "Accept-Encoding: br")
        check(status == 200 and len(brotli) < 1000, len(brotli))
        bodies = {name: compress(name) for name in ("gzip", "x-gzip", "deflate", "zstd")}
        bodies["br"] = brotli
        for scheme, options in WAYS:
            port = secure_port if scheme == "https" else plain_port
            for name, data in bodies.items():
                about = (scheme, options, name)
                status, body = curl(port, "/body", *options, *encoding(name), data=data, scheme=scheme)
                check(status == 200 and body == TEXT, *about, status, body[:100])
                status, body = curl(port, "/read?n=1000", *options, *encoding(name), data=data, scheme=scheme)
                check(body == str(len(TEXT)).encode(), *about, body)
                check(curl(port, "/raw", *options, *encoding(name), data=data, scheme=scheme)[1] == data, *about)
                target = f"/body?limit={len(TEXT) - 1}"
                if "2" in options[0]:
                    body = nghttp(f"{scheme}://127.0.0.1:{port}{target}", data, headers=["content-encoding: " + name])
                else:
                    status, body = curl(port, target, *options, *encoding(name), data=data, scheme=scheme)
                    check(status == 413, *about, status)
                check(body.startswith(b"ELIMIT"), *about, body)
                status, body = curl(port, "/body", *options, *encoding(name), data=data[:-2], scheme=scheme)
                check(status == 400 and body.startswith(b"EPROTO"), *about, body)
                status, body = curl(port, "/chunks", *options, *encoding(name), data=data + b"x", scheme=scheme)
                check(b" ok" not in body, *about, body)
            if "2" in options[0]:
                body = nghttp(f"{scheme}://127.0.0.1:{port}/body", b"x", headers=["content-encoding: gzip, br"])
            else:
                status, body = curl(port, "/body", *options, *encoding("gzip, br"), data=b"x", scheme=scheme)
                check(status == 415, options, status)
            check(body == b"EINVAL: request body: its Content-Encoding is not known here", options, body)
            check(curl(port, "/body", *options, *encoding("gzip"), data=b"", scheme=scheme) == (200, b""), options)
            check(curl(port, "/", options[0], *encoding("what"), scheme=scheme) == (200, b"hello"), options)
        for program in (plain, secure):
            check(program.stop() == 0 and "traceback" not in program.text, program.text)


def test_forms_and_refusals():
    program, port = serve(APP)
    with program:
        check(curl(port, "/form", *encoding("gzip"), data=gzip.compress(b"a=1&b=x+y")) == (200, b"a=1 b=x y"))
        parts = b"--X\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--X--\r\n"
        check(curl(port, "/form", *encoding("gzip"), "-H", "Content-Type: multipart/form-data; boundary=X",
                   data=gzip.compress(parts)) == (200, b"a=1"))
        check(curl(port, "/form", *encoding("rot13"), data=b"a=1")[0] == 415)
        check(curl(port, "/chunks", *encoding("rot13"), data=b"a=1")[1].startswith(b"0 "))
        late = curl(port, "/late", data=b"a=1")[1]
        check(late.count(b"decode: the body is being read already") == 2, late)
        check(program.stop() == 0, program.text)


def test_what_is_not_asked_for_is_not_looked_at():
    broken = ((*encoding("gzip"), b"not gzip"), ("-H", "Content-Type: application/json", b"{"),
              ("-H", "Content-Type: multipart/form-data; boundary=X", b"--Y"), ("-H", "Cookie: =;;\x80=;", b"x"))
    program, port = serve(APP)
    with program:
        for protocol in ("--http1.1", "--http2-prior-knowledge"):
            for *options, data in broken:
                status, body = curl(port, "/ignore?%zz&=&%", protocol, *options, data=data)
                check((status, body) == (200, b"ignored"), protocol, options, status, body)
            for target, (*options, data) in (("/body", broken[0]), ("/json", broken[1]), ("/form", broken[2])):
                check(curl(port, target, protocol, *options, data=data)[0] == 400, protocol, target)
        check(program.stop() == 0, program.text)


def peak_memory(program):
    with open(f"/proc/{program.process.pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmHWM:\s*(\d+) kB", f.read())[1])


def test_bombs():
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    program, port = serve(APP, "--workers", "1")
    with program:
        curl(port, "/body", *encoding("gzip"), data=gzip.compress(bytes(10 << 20)))
        before = peak_memory(program)
        small = subprocess.run("head -c 400M /dev/zero | zstd -qc", shell=True, capture_output=True, check=True).stdout
        for coding, data in (("gzip", bomb), ("zstd", small)):
            for target in ("/body", "/body?limit=1000", "/read?n=65536", "/read?n=2000000000"):
                status, body = curl(port, target, *encoding(coding), data=data)
                check(status == 413 and body.startswith(b"ELIMIT"), target, body)
                body = nghttp(f"http://127.0.0.1:{port}{target}", data, headers=["content-encoding: " + coding])
                check(body.startswith(b"ELIMIT"), target, body)
        grown = peak_memory(program) - before
        check("address" in os.environ.get("EVLUA_SANITIZE", "") or grown < 40_000, f"{grown} KiB more")
        check(program.stop() == 0, program.text)
    # 300 MiB of zeros are 1:1030.
    program, port = serve(APP, "--workers", "1", "--max-expansion", "1100", "--max-body", "100")
    with program:
        before = peak_memory(program)
        check(curl(port, "/read?n=65536", *encoding("gzip"), data=bomb)[1] == b"314572800")
        grown = peak_memory(program) - before
        check("address" in os.environ.get("EVLUA_SANITIZE", "") or grown < 40_000, f"{grown} KiB more")
        check(program.stop() == 0, program.text)


def chunked(target, trailers, *pieces, more=b""):
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return (b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n%b\r\n%b0\r\n%b\r\n" %
            (target, more, body, trailers))


TRAILERS = (b"X-A: 1\r\nHost: evil\r\nx-a: 2\r\nX-B:\r\nAuthorization: Basic x\r\nContent-Length: 3\r\nCookie: a=b\r\n"
            b"Content-Type: x/y\r\n")


def test_trailers():
    plain, port = serve(APP, "--workers", "2")
    secure, secure_port = serve_tls("--workers", "2")
    with plain, secure:
        answer = exchange(port, chunked(b"/trailers", TRAILERS, b"abc", b"def"))
        check(answer.endswith(b"6|1|x-a=1, 2 x-b="), answer)
        packed = gzip.compress(TEXT)
        answer = exchange(port, chunked(b"/trailers", TRAILERS, packed[:100], packed[100:],
                                        more=b"Content-Encoding: gzip\r\n"))
        check(answer.endswith(b"%d|1|x-a=1, 2 x-b=" % len(TEXT)), answer)
        check(exchange(port, chunked(b"/trailers", b"", b"abc")).endswith(b"3|nil|"))
        for bad in (b"X-A: \x01\r\n", b"X-A\r\n", b"X-A: " + b"y" * 9000 + b"\r\n"):
            check(exchange(port, chunked(b"/trailers", bad, b"abc")).endswith(b"EPROTO and no trailers"), bad[:20])
        answer = exchange(port, chunked(b"/trailers", TRAILERS, packed[:-1], more=b"Content-Encoding: gzip\r\n"))
        check(answer.endswith(b"EPROTO and no trailers"), answer)
        # Encrypted, byte by byte.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", secure_port), LIMIT) as tcp, context.wrap_socket(tcp) as stream:
            for byte in chunked(b"/trailers", TRAILERS, b"abc"):
                stream.sendall(bytes([byte]))
            answer = b""
            while got := stream.recv(65536):
                answer += got
            check(answer.endswith(b"3|1|x-a=1, 2 x-b="), answer)
        check(exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"hello"))
        for program in (plain, secure):
            check(program.stop() == 0 and "traceback" not in program.text, program.text)


def test_trailers_of_http2():
    plain, port = serve(APP, "--workers", "2")
    secure, secure_port = serve_tls("--workers", "2")
    with plain, secure:
        for url in (f"http://127.0.0.1:{port}/trailers", f"https://127.0.0.1:{secure_port}/trailers"):
            got = nghttp(url, b"abc" * 50000, "x-a: 1", "host: evil", "x-a: 2", "x-b: y", "authorization: z")
            check(got == b"150000|1|x-a=1, 2 x-b=y", url, got)
            check(nghttp(url, b"abc") == b"3|nil|", url)
            got = nghttp(url, b"abc", *(f"x-{i}: {'y' * 1000}" for i in range(10)))
            check(b"|" not in got, url, got)
        check(curl(port, "/", "--http2-prior-knowledge") == (200, b"hello"))
        for program in (plain, secure):
            check(program.stop() == 0 and "traceback" not in program.text, program.text)


try:
    main(globals())
finally:
    os.remove(APP)
    os.remove(ENCODED)
