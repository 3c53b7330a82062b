"""evluaserver while a handler computes without end: everybody else is served."""
import os
import signal
import socket
import threading

from support import LIMIT, check, exchange, main, serve, temporary

APP = temporary("""
local stop, pieces = false, 0
return function(req, res)
  if req.path == "/endless" then
    stop = false
    io.stderr:write("endless began\\n")
    local function spin() while not stop do pieces = pieces + 1 end end
    assert(pcall(coroutine.wrap(spin)))
    return res:text("ended")
  end
  if req.path == "/pattern" then
    io.stderr:write("pattern began\\n")
    return res:text(tostring(("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40) .. "b")))
  end
  if req.path == "/stop" then stop = true end
  if req.path == "/upload" then return res:text(tostring(#req:body())) end
  res:text("Hello\\n")
end
""")
CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


def get(port, path):
    return exchange(port, b"GET " + path + b" HTTP/1.1\r\n" + CLOSE)


def ask_on(kept, count):
    """Sends so many requests at once over a connection that is kept, and waits for their answers."""
    kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count)
    got = b""
    while got.count(b"Hello\n") < count:
        piece = kept.recv(4096)
        check(piece, "the connection has ended", got)
        got += piece


def test_an_endless_handler_delays_nobody():
    for workers in ("1", "2"):
        program, port = serve(APP, "--workers", workers)
        with program:
            kept = socket.create_connection(("127.0.0.1", port), LIMIT)  # accepted before, and after
            ask_on(kept, 1)
            answers = []
            endless = threading.Thread(target=lambda: answers.append(get(port, b"/endless")))
            endless.start()
            program.wait_for("endless began")
            for _ in range(20):
                check(get(port, b"/").endswith(b"Hello\n"), "a new connection")
                ask_on(kept, 3)
            body = b"x" * 300000
            got = exchange(port, b"POST /upload HTTP/1.1\r\nContent-Length: 300000\r\n" + CLOSE + body)
            check(got.endswith(b"300000"), got[-200:])
            check(not answers, answers)
            while not answers:  # which worker's VM it is in is the kernel's choice
                get(port, b"/stop")
                endless.join(0.01)
            check(answers[0].endswith(b"ended"), answers)
            kept.close()
            check(program.stop(signal.SIGTERM) == 0, program.text)


def test_a_pattern_that_backtracks_for_ever_delays_nobody():
    for workers in ("1", "2"):
        program, port = serve(APP, "--workers", workers, "--cpu-limit", "3")
        with program:
            kept = socket.create_connection(("127.0.0.1", port), LIMIT)
            answers = []
            endless = threading.Thread(target=lambda: answers.append(get(port, b"/pattern")))
            endless.start()
            program.wait_for("pattern began")
            for _ in range(20):
                check(get(port, b"/").endswith(b"Hello\n"), "a new connection")
                ask_on(kept, 1)
            check(not answers, answers)
            endless.join(LIMIT)
            check(answers[0].startswith(b"HTTP/1.1 503"), answers)
            kept.close()
            check(program.stop(signal.SIGTERM) == 0, program.text)


try:
    main(globals())
finally:
    os.remove(APP)
