"""JSON bodies: req:json and res:json."""
import json

from support import check, exchange, main, serve, temporary

APP = temporary("""
local json = require "evlua.json"
return function(req, res)
  if req.path == "/echo" then
    local value, message, code = req:json()
    if code then return res:status(400):text(code .. ": " .. message) end
    return res:json(value, {sort_keys = true})
  elseif req.path == "/limit" then
    local value, message, code = req:json(10)
    return res:text(tostring(code))
  elseif req.path == "/wrong" then
    local function refused(...) return not pcall(...) end
    assert(refused(req.json, req, "x") and refused(req.json, req, -1) and refused(req.json, req, 1.5))
    local ok, message = pcall(res.json, res, {a = {print}})
    assert(not ok and message:find("json: at .a[1]: a function has no form in JSON", 1, true), message)
    assert(refused(res.json, res) == false)
    assert(refused(res.json, res, 1))
  elseif req.path == "/type" then
    return res:header("Content-Type", "application/problem+json"):json{title = "no"}
  elseif req.path == "/raise" then
    res:json{nan = 0 / 0}
  elseif req.path == "/memory" then
    local texts, text = {}, "[" .. ("[],"):rep(300000) .. "0]"
    for i = 1, 100 do texts[i] = json.decode(text) end
  elseif req.path == "/memory_encode" then
    local t = {}
    for i = 1, 40 do t = {t, t} end
    local text = json.encode(t)
  end
end
""")


def post(port, body, content_type="application/json", path="/echo", chunked=False):
    if isinstance(body, str):
        body = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    if chunked:
        pieces = [body[i:i + 7] for i in range(0, len(body), 7)]
        head += "Transfer-Encoding: chunked\r\n\r\n"
        payload = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    else:
        head += f"Content-Length: {len(body)}\r\n\r\n"
        payload = body
    answer = exchange(port, head.encode() + payload)
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), text


def test_round_trip():
    value = {"name": "Größe \U0001f600", "list": [1, 2.5, None, True, [], {}], "big": 2 ** 62}
    program, port = serve(APP)
    with program:
        for chunked in (False, True):
            status, head, text = post(port, json.dumps(value), chunked=chunked)
            check(status == 200 and "Content-Type: application/json\r\n" in head + "\r\n", head, text)
            check(json.loads(text) == value and text.startswith(b'{"big":4611686018427387904,'), text)
        long = json.dumps(list(range(100000))).encode()
        check(json.loads(post(port, long)[2]) == list(range(100000)))
        check(post(port, "null")[2] == b"null" and post(port, "false")[2] == b"false")


def test_types():
    program, port = serve(APP)
    with program:
        for good in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON",
                     " application/json ;x", "application/ld+json", "application/problem+json;a=b"):
            check(post(port, "[1]", good)[2] == b"[1]", good)
        for bad in ("text/plain", "application/jsonp", "application/xml", "json", "x/application/json", "text/json-x",
                    "+json", "application/x-www-form-urlencoded"):
            status, _, text = post(port, "[1]", bad)
            check(status == 400 and text.startswith(b"EINVAL: not JSON: its type is '"), bad, text)
        status, _, text = post(port, "[1]", None)
        check(status == 400 and text == b"EINVAL: not JSON: it has no Content-Type", text)
        check("Content-Type: application/problem+json" in post(port, "", path="/type")[1])


def test_refused():
    program, port = serve(APP)
    with program:
        for body, words in (("", "no value"), ("{", "unexpected end"), ("[1,]", "unexpected ']' at line 1, column 4"),
                            (b'"\xff"', "not UTF-8"), ("1 2", "something behind the value")):
            status, _, text = post(port, body)
            check(status == 400 and text.startswith(b"EINVAL: ") and words.encode() in text, body, text)
        check(post(port, "[" * 5000)[2].startswith(b"ELIMIT: JSON: nested too deeply"))
        check(post(port, "[12345678]", path="/limit")[2] == b"nil")
        check(post(port, "[123456789]", path="/limit")[2] == b"ELIMIT")
        check(post(port, "[123456789]", path="/limit", chunked=True)[2] == b"ELIMIT")


def test_what_the_program_does_wrong():
    program, port = serve(APP)
    with program:
        check(post(port, "1", path="/wrong")[2] == b"null")
        check(post(port, "", path="/raise")[0] == 500)
        program.wait_for("json: at .nan: nan has no form in JSON")


def test_memory_limit():
    """A VM that is full answers 500, and goes on."""
    program, port = serve(APP, "--vm-memory", "32", "--workers", "1")
    with program:
        for path in ("/memory", "/memory_encode"):
            check(post(port, "", path=path)[0] == 500, path)
            program.wait_for("not enough memory")
            check(post(port, "[1]")[2] == b"[1]", path)


main(globals())
