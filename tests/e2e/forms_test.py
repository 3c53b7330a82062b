"""Forms, uploads, cookies and event streams: curl, and bodies written by hand."""
import os
import shutil
import socket
import subprocess
import tempfile

from support import LIMIT, check, eventually, exchange, main, serve, temporary

FOLDER = tempfile.mkdtemp()
SPOOL = os.path.join(FOLDER, "spool")
os.mkdir(SPOOL)
os.environ["TMPDIR"] = SPOOL
APP = temporary("""
local evlua = require "evlua"
local endless = 0
local function list(form)
  local lines = {}
  for name, value in pairs(form) do
    if type(value) == "table" then
      local kind = value.data and "memory" or "file"
      local content = value.data or value.file:read("a")
      value = ("%%s|%%s|%%d|%%s|%%s"):format(value.filename, value.type, value.size, kind, #content)
    end
    lines[#lines + 1] = name .. "=" .. value
  end
  table.sort(lines)
  return table.concat(lines, "\\n")
end
return function(req, res)
  if req.path == "/form" then
    local form, message, code = req:form({limit = 1000, memory = 100, file_limit = 4000000, files = 3})
    if not form then return res:status(400):text(code .. ": " .. message) end
    return res:text(list(form))
  elseif req.path == "/parts" then
    local lines, form = {}, assert(req:multipart())
    while true do
      local part, message, code = form:next()
      if not part then
        return res:status(code and 400 or 200):text(table.concat(lines, "\\n") .. "|" .. tostring(code))
      end
      if part.name == "skip" then part:read() else
        local text, why, what = part:text(50)
        lines[#lines + 1] = part.name .. "=" .. (text or what)
      end
    end
  elseif req.path == "/save" then
    for part in assert(req:multipart()) do
      local size, message, code = part:save("%s/" .. part.filename, {limit = 3000000})
      res:header("X-Result", tostring(size) .. " " .. tostring(code))
    end
    return res:text("saved")
  elseif req.path == "/late" then
    local form = assert(req:multipart())
    local first = form:next()
    form:next()
    return res:text(tostring(select(2, pcall(first.read, first))))
  elseif req.path == "/etag" then
    for _, wrong in ipairs{"", '"', 'a"b', "a b", 'W/"', '"a', "a\\n"} do assert(not pcall(res.etag, res, wrong)) end
    assert(not pcall(res.etag, res, "a", -1) and not pcall(req.accepts, req))
    if req:query("status") then res:status(tonumber(req:query("status"))) end
    if res:etag(req:query("tag"), tonumber(req:query("at") or nil)) then return end
    local accepted = {tostring(req:accepts("text/html", "a/b")), tostring(req:accepts_language("en", "de-AT"))}
    return res:text(table.concat(accepted, " "))
  elseif req.path == "/leave" then
    collectgarbage("stop")
    assert(req:form({memory = 100}).f.file)
    return res:text("left")
  elseif req.path == "/endless" then
    endless = endless + 1
    local events = assert(res:sse())
    repeat local ok = events:send("tick") until not ok or not evlua.sleep(0.01)
    endless = endless - 1
    return
  elseif req.path == "/count" then
    return res:text("endless: " .. endless)
  elseif req.path == "/cookies" then
    local function refused(...) return not pcall(res.cookie, res, ...) end
    assert(refused("a b", "x") and refused("a", "x;y") and refused("a", "x y") and refused("a", "x\\r\\n"))
    assert(refused("a") and refused("a", "b", {path = "/;x"}) and refused("a", "b", {same_site = "Lux"}))
    assert(refused("a", "b", {pth = "/"}))
    for _, name in ipairs{"__Secure-a", "__Host-a"} do
      assert(refused(name, "b") and refused(name, "b", {secure = false}))
    end
    assert(refused("__Host-a", "b", {secure = true, domain = "x"}))
    assert(refused("__Host-a", "b", {secure = true, path = "/x"}))
    assert(refused("a", "b", {same_site = "none"}) and refused("a", "b", {partitioned = true}))
    assert(refused("a", "b", {expires = -1}) and refused("a", "b", {same_site = true}))
    if req:query("more") then
      res:cookie("d", "4", {same_site = false, expires = 784111777}):cookie("e", "5", {max_age = -1})
        :cookie("__Host-f", "6", {secure = true})
      return res:text("ok")
    end
    res:cookie("a", "1"):cookie("b", "2", {path = "/x", domain = "example.org", max_age = 5, secure = true,
      http_only = false, same_site = "none", partitioned = true}):cookie("c", nil)
    return res:text("ok")
  elseif req.path == "/events" then
    local events = assert(res:sse())
    assert(not pcall(events.send, events, {event = "a\\nb"}))
    events:send("one\\r\\ntwo\\rthree\\n")
    events:send({event = "e", id = 7, retry = 10, data = ""})
    events:ping()
    for _ = 1, 3 do events:send("tick") evlua.sleep(0.001) end
    return events:close()
  end
  res:status(404):text("?")
end
""" % FOLDER)


def curl(port, target, *options):
    got = subprocess.run(["curl", "-sS", "-i", *options, f"http://127.0.0.1:{port}{target}"], capture_output=True,
                         timeout=LIMIT)
    check(got.returncode == 0, got)
    head, body = got.stdout.rsplit(b"HTTP/1.1 ", 1)[1].split(b"\r\n\r\n", 1)
    return int(head[:3]), head.decode(), body


def part(disposition, content, more=b""):
    return b"\r\n--X\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + more + b"\r\n" + content


def post(port, target, body, kind=b"multipart/form-data; boundary=X"):
    head = (b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: " + kind +
            b"\r\nContent-Length: %d\r\n\r\n" % len(body))
    return exchange(port, head + body).split(b"\r\n\r\n", 1)[1]


def open_descriptors(program):
    return len(os.listdir(f"/proc/{program.process.pid}/fd"))


def test_forms():
    big = os.path.join(FOLDER, "big")
    with open(big, "wb") as f:
        f.write(os.urandom(3_000_000))
    small = "/etc/hostname"
    program, port = serve(APP, "--workers", "2")
    with program:
        check(curl(port, "/form", "-d", "a=1&b=x%20y+z%zz&a=2&=e&n")[2] == b"=e\na=1\nb=x y z%zz\nn=")
        before = open_descriptors(program)
        status, _, body = curl(port, "/form", "-F", "a=1", "-F", "a=2", "-F", f"f=@{big}", "-F",
                               "g=@/etc/hostname;type=x/y")
        size = os.path.getsize("/etc/hostname")
        check(status == 200 and body == b"a=1\nf=big|application/octet-stream|3000000|file|3000000\n"
              b"g=hostname|x/y|%d|memory|%d" % (size, size), body)
        check(not os.listdir(SPOOL))
        for options, words in ((["-d", "x=" + "y" * 2000], b"ELIMIT"), (["-F", "x=" + "y" * 2000], b"ELIMIT"),
                               (["-F", f"f=@{big}", "-F", f"g=@{big}"], b"ELIMIT"),
                               (["-F", f"f=@{small}", "-F", "h=" + "z" * 1001], b"ELIMIT"),
                               (["-F", f"f=@{small}"] * 4, b"ELIMIT: the form has too many files"),
                               (["-H", "Content-Type: text/plain", "-d", "x"], b"EINVAL"),
                               (["-H", "Content-Type: multipart/form-data", "-d", "x"], b"EINVAL"),
                               (["-H", "Content-Type: multipart/form-data; boundary=y", "-d", "x"], b"EPROTO")):
            status, _, body = curl(port, "/form", *options)
            check(status == 400 and body.startswith(words), options[:2], body)
        check(open_descriptors(program) <= before + 8, "temporary files stay open")
        check(program.stop() == 0, program.text)


def test_spooled_files_end_with_the_request():
    program, port = serve(APP)
    with program:
        check(curl(port, "/leave", "-F", f"f=@{APP}")[2] == b"left")
        folder = f"/proc/{program.process.pid}/fd"
        eventually(lambda: not any(SPOOL in os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)))
        check(program.stop() == 0, program.text)


def test_a_form_that_was_read_keeps_the_connection():
    """Though nobody has read the end of its last chunk, and it was sent before anybody asked for it."""
    program, port = serve(APP)
    with program:
        form = part(b"name=a", b"b") + b"\r\n--X--\r\n"
        answer = exchange(port, b"POST /parts HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                          b"Content-Type: multipart/form-data; boundary=X\r\nTransfer-Encoding: chunked\r\n\r\n"
                          b"%x\r\n%s\r\n0\r\n\r\n" % (len(form), form) +
                          b"GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        check(b"a=b|nil" in answer and answer.endswith(b"endless: 0"), answer)
        check(program.stop() == 0, program.text)


def test_a_handler_that_is_ended_saves_nothing():
    place = os.path.join(FOLDER, "precious")
    with open(place, "w") as f:
        f.write("what was there")
    files = sorted(os.listdir(FOLDER))
    program, port = serve(APP, "--request-timeout", "0.5")
    with program:
        body = part(b'name=a; filename=precious', b"x" * 300000)
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(b"POST /save HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=X\r\n"
                           b"Content-Length: 1000000\r\n\r\n" + body)
            check(b" 503 " in stream.recv(1000))
        with open(place) as f:
            check(f.read() == "what was there" and sorted(os.listdir(FOLDER)) == files, os.listdir(FOLDER))
        post(port, b"/save", part(b'name=a; filename=precious', b"new") + b"\r\n--X--")
        with open(place) as f:
            check(f.read() == "new" and sorted(os.listdir(FOLDER)) == files, os.listdir(FOLDER))
        check(program.stop() == 0, program.text)


def test_the_head_of_a_stream_is_all_of_it():
    program, port = serve(APP)
    with program:
        answer = exchange(port, b"HEAD /endless HTTP/1.1\r\nHost: x\r\n\r\n" * 3 +
                          b"GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        check(answer.count(b"text/event-stream") == 3 and answer.endswith(b"endless: 0"), answer)
        http2 = subprocess.run(["curl", "-sS", "-I", "--http2-prior-knowledge", f"http://127.0.0.1:{port}/endless"],
                               capture_output=True, timeout=LIMIT)
        check(b"text/event-stream" in http2.stdout, http2)
        check(program.stop() == 0, program.text)


def test_parts():
    whole = (part(b'name="a"', b"1") + part(b'name="skip"', b"x" * 100000) + part(b'name="long"', b"y" * 51) +
             part(b'name="b"; filename="../f"', b"\r\n--\r\n") + b"\r\n--X--\r\n")
    program, port = serve(APP)
    with program:
        check(post(port, b"/parts", whole) == b"a=1\nlong=ELIMIT\nb=\r\n--\r\n|nil")
        check(post(port, b"/parts", whole[:-20]) .endswith(b"|EPROTO"))
        check(b"the part is over" in post(port, b"/late", whole))
        # In pieces, with pauses that the kernel makes.
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            small = part(b'name="a"', b"1") + b"\r\n--X--"
            stream.sendall(b"POST /parts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
                           b"Content-Type: multipart/form-data; boundary=X\r\n\r\n")
            for byte in small:
                stream.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
            stream.sendall(b"0\r\n\r\n")
            answer = b""
            while got := stream.recv(65536):
                answer += got
            check(answer.endswith(b"a=1|nil"), answer)
        status, head, _ = curl(port, "/save", "-F", f"f=@{APP};filename=../../kept.lua")
        check(status == 200 and f"x-result: {os.path.getsize(APP)} nil" in head.lower(), head)
        with open(APP, "rb") as one, open(os.path.join(FOLDER, "kept.lua"), "rb") as two:
            check(one.read() == two.read())
        post(port, b"/save", part(b'name=a; filename=large', b"x" * 3000001) + b"\r\n--X--")
        check(not os.path.exists(os.path.join(FOLDER, "large")), "what was too long stays")
        post(port, b"/save", part(b'name=a; filename=cut', b"x" * 30000))
        check(not os.path.exists(os.path.join(FOLDER, "cut")), "what was cut stays")
        check(program.stop() == 0, program.text)


def test_conditions_and_choices():
    program, port = serve(APP)
    with program:
        date = "Sun, 06 Nov 1994 08:49:37 GMT"
        for status, query, options in (
                (200, "tag=v1", []), (200, "tag=v1", ["If-None-Match: v1"]), (304, "tag=v1", ['If-None-Match: "v1"']),
                (304, "tag=W/%22v1%22", ['If-None-Match: "x"', 'If-None-Match: "v1"']),
                (412, "tag=v1", ['If-Match: "v2"']),
                (304, "tag=v1&at=784111777", [f"If-Modified-Since: {date}"]),
                (200, "tag=v1&at=784111778", [f"If-Modified-Since: {date}"]),
                (404, "tag=v1&status=404", ['If-None-Match: "v1"'])):
            got = curl(port, "/etag?" + query, *(part for option in options for part in ("-H", option)))
            check(got[0] == status and (status in (200, 404)) == (got[2] != b""), query, options, got)
            check(status == 412 or ('ETag: W/"v1"' if "W/" in query else 'ETag: "v1"') in got[1], got)
        put = curl(port, "/etag?tag=v1", "-X", "PUT", "-H", "If-None-Match: *")
        check(put[0] == 412, put)
        for options, answer in (([], b"text/html en"), (["Accept: a/*", "Accept-Language: de"], b"a/b de-AT"),
                                (["Accept: c/d", "Accept: a/b;q=0.1", "Accept-Language: fr"], b"a/b nil")):
            got = curl(port, "/etag?tag=v1", *(part for option in options for part in ("-H", option)))
            check(got[2] == answer, options, got)
        check(program.stop() == 0, program.text)
    program, port = serve(APP, "--compress", "6")
    with program:  # nobody knows yet what the content would have been
        for more in ([], ["-H", "Accept-Encoding: gzip"]):
            status, fields, _ = curl(port, "/etag?tag=v1", "-H", 'If-None-Match: "v1"', *more)
            check(status == 304 and "Vary: Accept-Encoding" in fields and 'ETag: "v1"' in fields, fields)
        check(program.stop() == 0, program.text)


def test_cookies_and_events():
    program, port = serve(APP)
    with program:
        _, head, body = curl(port, "/cookies")
        lines = [line for line in head.split("\r\n") if line.startswith("Set-Cookie")]
        check(body == b"ok" and lines == [
            "Set-Cookie: a=1; Path=/; SameSite=Lax; HttpOnly",
            "Set-Cookie: b=2; Path=/x; Domain=example.org; SameSite=None; Secure; Partitioned; Max-Age=5",
            "Set-Cookie: c=; Path=/; SameSite=Lax; HttpOnly; Max-Age=0"], head, body)
        lines = [line for line in curl(port, "/cookies?more=1")[1].split("\r\n") if line.startswith("Set-Cookie")]
        check(lines == ["Set-Cookie: d=4; Path=/; HttpOnly; Expires=Sun, 06 Nov 1994 08:49:37 GMT",
                        "Set-Cookie: e=5; Path=/; SameSite=Lax; HttpOnly; Max-Age=0",
                        "Set-Cookie: __Host-f=6; Path=/; SameSite=Lax; Secure; HttpOnly"], lines)
        status, head, body = curl(port, "/events")
        check("Content-Type: text/event-stream" in head and body ==
              b"data: one\ndata: two\ndata: three\ndata: \n\nevent: e\nid: 7\nretry: 10\ndata: \n\n: \n\n" +
              b"data: tick\n\n" * 3, head, body)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
    os.remove(APP)
