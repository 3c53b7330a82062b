"""Tasks of a handler that go on with its request when it has ended, and beside each other."""
import socket
import struct

from support import LIMIT, check, exchange, main, serve, temporary

APP = temporary("""
local evlua = require "evlua"
local much = ("not yours "):rep(1 << 20)

-- A task in which the method is called, when it has come so far.
local function begin(object, method, ...)
  local begun = false
  local task = evlua.spawn(function(...)
    begun = true
    return select(3, object[method](object, ...))
  end, ...)
  repeat evlua.yield() until begun
  return task
end

local answers = {
  ["/writes"] = function(_, res)
    res:write("mine ")
    begin(res, "write", much)
  end,
  ["/reads"] = function(req, res)
    begin(req, "read")
    res:text("ended")
  end,
  ["/fails"] = function(req)
    begin(req, "body")
    error "as it should"
  end,
  ["/body"] = function(req, res) res:text(assert(req:body())) end,
  ["/stream"] = function(_, res)
    for _ = 1, 20 do assert(res:write(("b"):rep(100000))) end
  end,
  ["/two"] = function(req, res)
    local pieces, codes = {}, {}
    local function read()
      local piece, _, code
      repeat
        piece, _, code = req:read(10)
        pieces[#pieces + 1] = piece
      until not piece
      codes[#codes + 1] = code
    end
    evlua.all {read, read, function() res:write("go ") end}
    assert(res:write(table.concat(pieces) .. " " .. table.concat(codes, " ")))
  end,
  ["/finishes"] = function(_, res)
    res:write("mine ")
    local writing = begin(res, "write", much)
    res:finish()
    assert(writing:join() == "EALREADY")
  end,
}
return function(req, res) return answers[req.path](req, res) end
""")


def serve_one():
    return serve(APP, "--workers", "1")


def connect(port, data):
    connection = socket.create_connection(("127.0.0.1", port), LIMIT)
    connection.sendall(data)
    return connection


def take_until(connection, end):
    answer = b""
    while not answer.endswith(end):
        got = connection.recv(65536)
        check(got, "the connection has ended", answer[-100:])
        answer += got
    return answer


def get(path):
    return b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path


def test_what_is_written_is_not_another_clients():
    program, port = serve_one()
    with program:
        for _ in range(5):
            one = connect(port, get(b"/writes"))
            check(one.recv(10) == b"HTTP/1.1 2")
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
            for _ in range(2):
                answer = exchange(port, b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                check(b"yours" not in answer and answer.endswith(b"\r\n0\r\n\r\n"), answer[:1000])
        check(program.stop() == 0, program.text)


def test_what_is_read_is_the_next_requests():
    program, port = serve_one()
    with program:
        for path, status in ((b"/reads", b"200"), (b"/fails", b"500")):
            connection = connect(port, b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n" % path)
            answer = take_until(connection, b"ended" if status == b"200" else b"Error\n")
            check(answer.startswith(b"HTTP/1.1 " + status), answer)
            connection.sendall(b"0123456789POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            check(b"200 OK" in take_until(connection, b"\r\n\r\nabc"), path)
            connection.close()
        check(program.stop() == 0, program.text)


def test_one_task_at_a_time_reads_a_body():
    program, port = serve_one()
    with program:
        connection = connect(port, b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n")
        take_until(connection, b"go \r\n")
        connection.sendall(b"0123456789" * 3)
        answer = take_until(connection, b"\r\n0\r\n\r\n")
        check(b"0123456789" * 3 + b" EBUSY EOF" in answer, answer)
        connection.close()
        check(program.stop() == 0, program.text)


def test_nothing_is_written_behind_the_end():
    program, port = serve_one()
    with program:
        connection = connect(port, get(b"/finishes"))
        take_until(connection, b"\r\n0\r\n\r\n")
        connection.sendall(get(b"/stream"))
        check(take_until(connection, b"\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200 "))
        connection.close()
        check(program.stop() == 0, program.text)


main(globals())
