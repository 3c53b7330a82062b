"""Compressed responses: curl and Python's decoders, over HTTP/1 and HTTP/2."""
import gzip
import os
import subprocess
import zlib

from support import LIMIT, check, main, serve, temporary

TEXT = "The quick brown fox jumps over the lazy dog. " * 300
APP = temporary("""
local evlua = require "evlua"
local text = ("The quick brown fox jumps over the lazy dog. "):rep(300)
return function(req, res)
  local kind = req:query("type")
  if kind then res:header("Content-Type", kind) end
  if req:query("etag") then res:header("ETag", '"abc"') end
  if req:query("off") then res:compress(false) end
  if req:query("coded") then res:header("Content-Encoding", "x-other") end
  if req:query("keep") then res:header("Cache-Control", "no-transform") end
  if req.path == "/stream" then
    if not kind then res:header("Content-Type", "text/plain") end
    for i = 1, 300 do
      res:write("The quick brown fox jumps over the lazy dog. ")
      if i % 100 == 0 then evlua.sleep(0.001) end
    end
  elseif req.path == "/pieces" then
    res:header("Content-Type", "text/plain")
    res:write("first")
    io.stderr:write("first is out\\n")
    evlua.sleep(tonumber(req:query("wait")))
    res:write("second")
  elseif req.path == "/promised" then
    res:header("Content-Type", "text/plain"):header("Content-Length", tostring(#text)):write(text)
  elseif req.path == "/small" then
    res:text("small")
  else
    res:text(text)
  end
end
""")


def curl(port, target, *options):
    """Status, fields, body as it was sent."""
    got = subprocess.run(["curl", "-sS", "-i", *options, f"http://127.0.0.1:{port}{target}"], capture_output=True,
                         timeout=LIMIT)
    check(got.returncode == 0, got)
    head, body = got.stdout.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    fields = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in lines[1:]}
    return int(lines[0].split(" ")[1]), fields, body


def accept(codings):
    return ["-H", f"Accept-Encoding: {codings}"]


def test_codings():
    for level in ("1", "5", "9"):
        program, port = serve(APP, "--compress", level, "--workers", "2")
        with program:
            for protocol in ("--http1.1", "--http1.0", "--http2-prior-knowledge"):
                for target in ("/", "/stream"):
                    _, fields, body = curl(port, target, protocol, *accept("gzip"))
                    check(fields["content-encoding"] == "gzip" and fields["vary"] == "Accept-Encoding", fields)
                    check(gzip.decompress(body).decode() == TEXT and len(body) < 8000, target, len(body))
                    for coding in ("br", "zstd", "gzip"):
                        _, fields, body = curl(port, target, protocol, "--raw" if coding == "zstd" else "--compressed",
                                               *accept(coding))
                        check(fields["content-encoding"] == coding, fields)
                        check(coding == "zstd" or body.decode() == TEXT, coding, protocol)
                        if coding == "zstd" and "transfer-encoding" not in fields:
                            plain = subprocess.run(["zstd", "-dc"], input=body, capture_output=True, check=True).stdout
                            check(plain.decode() == TEXT)
            check(program.stop() == 0, program.text)


def test_when_not():
    program, port = serve(APP, "--compress", "6")
    with program:
        for target, options in (("/", []), ("/", accept("identity")), ("/", accept("gzip;q=0, *;q=0")),
                                ("/small", accept("gzip")),
                                ("/?type=image/png", accept("gzip")), ("/?off=1", accept("gzip")),
                                ("/?keep=1", accept("gzip")), ("/promised", accept("gzip"))):
            _, fields, body = curl(port, target, *options)
            check("content-encoding" not in fields and "vary" not in fields, target, options, fields)
            check(body.decode() in (TEXT, "small"))
        check(curl(port, "/?coded=1", *accept("gzip"))[1]["content-encoding"] == "x-other")
        check(curl(port, "/?etag=1", *accept("gzip"))[1]["etag"] == 'W/"abc"')
        check(curl(port, "/?etag=1")[1]["etag"] == '"abc"')
        check(curl(port, "/", *accept("gzip"), "-I")[1]["content-encoding"] == "gzip")
        check(program.stop() == 0, program.text)
    program, port = serve(APP)
    with program:
        check("content-encoding" not in curl(port, "/", *accept("gzip"))[1])
        check(program.stop() == 0, program.text)


def test_a_stream_is_not_held_back():
    program, port = serve(APP, "--compress", "6")
    with program:
        reader = subprocess.Popen(["curl", "-sSN", *accept("gzip"), f"http://127.0.0.1:{port}/pieces?wait=0.5"],
                                  stdout=subprocess.PIPE)
        unpack, seen = zlib.decompressobj(31), b""
        while seen != b"first":
            got = os.read(reader.stdout.fileno(), 65536)
            check(got, "ended early", seen)
            seen += unpack.decompress(got)
        seen += unpack.decompress(reader.stdout.read())
        check(seen == b"firstsecond" and unpack.eof and reader.wait(LIMIT) == 0, seen)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    os.remove(APP)
