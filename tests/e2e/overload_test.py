"""evluaserver with more to do than it can: who is refused, who has to wait, and who has which share."""
import select
import socket
import threading
import time

from attackers import (CHUNKED, DATA, POST, PREFACE, RST_STREAM, SETTINGS, Frames, Server, answer_on, frame, head,
                       rest_of)
from support import LIMIT, check, eventually, main


class Callers:
    """Clients of one address, each asking again as soon as it has an answer, or `pause` seconds after a refusal."""

    def __init__(self, server, count, path, pause=0.02, address=None):
        self.server, self.path, self.pause, self.address = server, path, pause, address
        self.stopping = threading.Event()
        self.times, self.refused, self.wrong = [], 0, []
        self.threads = [threading.Thread(target=self.call) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def call(self):
        first = f"PROXY TCP4 {self.address} 127.0.0.1 1000 80\r\n".encode() if self.address else b""
        with self.server.connect(first) as s:
            while not self.stopping.is_set():
                began = time.monotonic()
                s.sendall(b"GET " + self.path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while not answer.endswith((b"hello", b"Unavailable\n")):
                    got = s.recv(65536)
                    if not got:
                        break
                    answer += got
                if answer.endswith(b"hello"):
                    self.times.append(time.monotonic() - began)
                elif answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in answer:
                    self.refused += 1
                    time.sleep(self.pause)
                else:
                    self.wrong.append(answer)
                    return

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        check(not self.wrong, self.wrong[:2])
        return self


def overload(path):
    with Server("--workers", "1", "--queue-target", "0.2") as server:
        few = Callers(server, 2, path)
        eventually(lambda: len(few.times) >= 10)
        check(few.end().refused < len(few.times) / 4, "there is time for two")
        many = Callers(server, 100, path)
        eventually(lambda: many.refused >= 100)
        settled = len(many.times)
        eventually(lambda: len(many.times) >= settled + 30, "some are served all the time")
        many.end()
        shed = server.status()["shed"]
        check(shed == many.refused == server.metric("evlua_requests_shed_total"), shed, many.refused)
        again = Callers(server, 1, path)
        eventually(lambda: len(again.times) >= 5)
        check(again.end().refused < len(again.times), "it is over")


def test_overload_is_refused_early():
    overload(b"/block")


def test_handlers_that_compute_are_too_many():
    """They begin at once and take turns: what is too long is the time until all of their turns were."""
    overload(b"/compute")


def test_no_refusals_where_none_are_wanted():
    with Server("--workers", "1", "--queue-target", "0") as server:
        many = Callers(server, 60, b"/block")
        eventually(lambda: len(many.times) >= 100)
        check(many.end().refused == 0 and server.status()["shed"] == 0)


def test_the_refused_have_to_wait():
    """Asking again at once, and again, would take the time of those that are served."""
    with Server("--workers", "1", "--queue-target", "0.2") as server:
        hasty = Callers(server, 60, b"/compute", pause=0)
        eventually(lambda: hasty.refused >= 60)
        began, before = time.monotonic(), hasty.refused
        eventually(lambda: hasty.refused >= before + 120)
        each = (time.monotonic() - began) / ((hasty.refused - before) / 60)
        hasty.end()
        check(each >= 0.15, "seconds between two refusals of one connection:", each)


class Busy:
    """A server that has too much to do."""

    def __enter__(self):
        self.server = Server("--workers", "1", "--queue-target", "0.2")
        self.others = Callers(self.server, 60, b"/compute", pause=0)
        eventually(lambda: self.others.refused >= 60)
        return self.server

    def __exit__(self, *about):
        self.others.end()
        self.server.__exit__(*about)


def test_the_refused_have_to_wait_when_they_pipeline():
    with Busy() as server, server.connect() as s:
        s.sendall(b"GET /compute HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        answers, times = b"", []
        while answers.count(b"503 Service Unavailable") < 10:
            piece = s.recv(65536)
            check(piece, answers[-100:])
            answers += piece
            times += [time.monotonic()] * piece.count(b"503 Service Unavailable")
        check(times[9] - times[0] >= 9 * 0.15, "ten refusals took", times[9] - times[0])


def test_the_refused_have_to_wait_over_http2():
    """All streams that there may be, and a new one for each answer."""
    with Busy() as server, server.connect(PREFACE + frame(SETTINGS)) as s:
        frames = Frames(s)
        s.sendall(b"".join(head(stream, "GET", "/compute") for stream in range(1, 201, 2)))
        asked, seen, ended, times = 201, 0, set(), []
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            check(frames.more(0.05), frames.seen[-3:])
            for kind, stream, payload in frames.seen[seen:]:
                if payload == b"Service Unavailable\n":
                    times.append(time.monotonic())
                if kind in (DATA, RST_STREAM) and stream not in ended:
                    ended.add(stream)
                    s.sendall(head(asked, "GET", "/compute"))
                    asked += 2
            seen = len(frames.seen)
        check(len(times) >= 50, "too few were refused to tell", len(times))
        lasted = times[-1] - times[0]
        check(len(times) <= 128 + 60 * lasted, len(times), "refusals in", lasted)


def test_the_greedy_are_refused_first():
    with Server("--workers", "1", "--queue-target", "0.2", "--proxy-protocol", "127.0.0.1") as server:
        greedy = Callers(server, 60, b"/block", address="192.0.2.1")
        eventually(lambda: greedy.refused >= 100)
        modest = Callers(server, 1, b"/block", pause=0.1, address="192.0.2.2")
        served, refused = len(greedy.times), greedy.refused
        eventually(lambda: len(modest.times) + modest.refused >= 30)
        served, refused = len(greedy.times) - served, greedy.refused - refused
        greedy.end()
        modest.end()
        check(modest.refused / len(modest.times) < refused / served / 2, modest.refused, len(modest.times), refused,
              served)


def test_others_do_not_answer_for_who_computes():
    with Server("--workers", "1", "--queue-target", "0.2", "--proxy-protocol", "127.0.0.1") as server:
        greedy = Callers(server, 40, b"/compute", address="192.0.2.1")
        eventually(lambda: greedy.refused >= 100)
        modest = Callers(server, 1, b"/", pause=0.1, address="192.0.2.2")
        eventually(lambda: len(modest.times) + modest.refused >= 40)
        greedy.end()
        check(modest.end().refused < len(modest.times) / 4, modest.refused, len(modest.times))


def test_a_queue_has_an_end():
    with Server("--workers", "1", "--queue-target", "0", "--max-queue", "5") as server:
        many = Callers(server, 60, b"/compute")
        eventually(lambda: many.refused >= 20 and len(many.times) >= 5)
        many.end()


FREE = 16 * 1024  # bytes of the bodies of a connection that do not count


def test_bodies_share_their_memory():
    with Server("--max-body-memory", "1000000", "--max-body-memory-per-address", "0", "--workers", "2") as server:
        held = []
        for _ in range(9):
            s = server.connect()
            s.sendall(POST + b"x" * (100_000 + FREE))
            held.append(s)
        eventually(lambda: server.status()["body_memory"] == 900_000)
        check(server.metric("evlua_body_memory_bytes") == 900_000)
        with server.connect() as s:
            s.sendall(POST.replace(b"1000000", b"150000") + b"x" * 150_000)
            answer = rest_of(s)
            check(answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer, answer)
        with server.connect() as s:
            s.sendall(POST.replace(b"1000000", b"90000") + b"x" * 90_000)
            check(b"\r\n\r\n90000" in s.recv(65536))
            check(answer_on(s).endswith(b"hello"))
        for s in held:
            s.close()
        eventually(lambda: server.status()["body_memory"] == 0)


def upload(server, size, address=None):
    first = f"PROXY TCP4 {address} 127.0.0.1 1000 80\r\n".encode() if address else b""
    s = server.connect(first)
    s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    return s


def test_an_address_has_a_share_of_body_memory():
    """Whoever takes all that he can get leaves enough for the others."""
    with Server("--max-body-memory", "1000000", "--workers", "2", "--proxy-protocol", "127.0.0.1") as server:
        held, refused = [], 0
        for _ in range(30):
            s = upload(server, 1_000_000, "192.0.2.1")
            s.sendall(b"x" * (30_000 + FREE))
            held.append(s)
        eventually(lambda: server.status()["statuses"][4] == 22)
        eventually(lambda: 200_000 < server.status()["body_memory"] <= 250_000)
        for s in held:
            if select.select([s], [], [], 0)[0]:
                answer = rest_of(s)
                check(answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer, answer)
                refused += 1
        check(refused == 22, refused)
        for address in ("192.0.2.2", "192.0.2.1"):  # in pieces, so that it has to wait for some
            with upload(server, 200_000, address) as s:
                s.sendall(b"y" * 100_000)
                if address == "192.0.2.2":
                    eventually(lambda: server.status()["body_memory"] >= 300_000)
                    s.sendall(b"y" * 100_000)
                    check(b"\r\n\r\n200000" in s.recv(65536), "there is room for another one")
                else:
                    check(rest_of(s).startswith(b"HTTP/1.1 503 "), "and for no more of the same")
        for s in held:
            s.close()
        eventually(lambda: server.status()["body_memory"] == 0)
        with upload(server, 900_000, "192.0.2.1") as s:  # a single one need not keep to it
            s.sendall(b"z" * 800_000)
            eventually(lambda: server.status()["body_memory"] == 800_000 - FREE)
            s.sendall(b"z" * 100_000)
            check(b"\r\n\r\n900000" in s.recv(65536))
    check(server.program.text.count("bodies from 192.0.2.1:1000 take more memory") == 1, server.program.text)


def test_streams_share_their_addresss_body_memory():
    with Server("--max-body-memory", "1000000", "--workers", "2") as server:
        bad = server.connect(PREFACE + frame(SETTINGS))
        for stream in range(1, 61, 2):
            bad.sendall(head(stream, "POST", "/", ends=False) + frame(0, 0, stream, b"x" * 15_000) * 2)
        def held():
            status = server.status()
            return status["body_memory"] == 30_000 * (30 - status["statuses"][4]) - FREE  # once, not for each

        eventually(lambda: server.status()["statuses"][4] >= 22 and held(), "the others are refused")
        before = server.status()["body_memory"]
        check(0 < before <= 250_000, before)
        with socket.socket() as s:
            s.settimeout(LIMIT)
            s.bind(("127.0.0.2", 0))
            s.connect(("127.0.0.1", server.port))
            s.sendall(POST.replace(b"1000000", b"240000") + b"x" * 120_000)
            eventually(lambda: server.status()["body_memory"] == before + 120_000 - FREE)
            s.sendall(b"x" * 120_000)
            check(b"\r\n\r\n240000" in s.recv(65536), "another address has its own")
        bad.close()
        eventually(lambda: server.status()["body_memory"] == 0)


def test_small_bodies_find_room_when_there_is_none():
    """A login works while others fill the memory, however it is sent."""
    with Server("--max-body-memory", "100000", "--max-body-memory-per-address", "0", "--workers", "2") as server:
        held = []
        for _ in range(5):
            held.append(server.connect(POST + b"x" * (20_000 + FREE)))
        eventually(lambda: server.status()["body_memory"] == 100_000)

        def answer(*pieces):
            with server.connect() as s:
                for number, piece in enumerate(pieces):
                    if number:  # the handler waits for it
                        time.sleep(0.1)
                    s.sendall(piece)
                got = s.recv(65536)
                return int(got.split(b" ")[1]), got.split(b"\r\n\r\n", 1)[1]

        small = POST.replace(b"1000000", b"30")
        check(answer(small + b"x" * 30) == (200, b"30"), "whole")
        check(answer(small + b"x" * 10, b"x" * 20) == (200, b"30"), "in pieces")
        check(answer(POST.replace(b"1000000", b"16000") + b"x" * 15_000, b"x" * 1000) == (200, b"16000"))
        check(answer(POST.replace(b"1000000", b"60000") + b"x" * 20_000, b"x" * 20_000)[0] == 503, "not small")
        many = b"".join(b"%x\r\n%b\r\n" % (1000, b"x" * 1000) for _ in range(10)) + b"0\r\n\r\n"
        check(answer(CHUNKED + many) == (200, b"10000"), "chunks")
        check(answer(CHUNKED, many[:3000], many[3000:]) == (200, b"10000"), "chunks in pieces")
        with server.connect(PREFACE + frame(SETTINGS)) as s:
            frames = Frames(s)
            for stream, pieces in ((1, [b"x" * 10]), (3, [b"x" * 10, b"y"]), (5, [b"x" * 8000] * 2)):
                s.sendall(head(stream, "POST", "/", ends=False))
                for piece in pieces[:-1]:
                    s.sendall(frame(0, 0, stream, piece))
                    if stream == 3:
                        time.sleep(0.1)
                s.sendall(frame(0, 1, stream, pieces[-1]))
                frames.body = b""
                frames.until(lambda: frames.body == str(sum(map(len, pieces))).encode())
            # Its streams share what is free: nobody gets more of it by asking for more streams.
            for stream in range(7, 27, 2):
                s.sendall(head(stream, "POST", "/", ends=False) + frame(0, 0, stream, b"x" * 10_000))
            eventually(lambda: server.status()["statuses"][4] == 10)
        for s in held:
            s.close()
        eventually(lambda: server.status()["body_memory"] == 0)


def test_a_trusted_proxy_has_no_share():
    with Server("--max-body-memory", "1000000", "--workers", "2", "--trusted-proxy", "127.0.0.1") as server:
        def forwarded(address):
            s = server.connect()
            name = f"X-Forwarded-For: {address}\r\n".encode() if address else b""
            s.sendall(POST.replace(b"Host: x\r\n", b"Host: x\r\n" + name) + b"x" * (100_000 + FREE))
            return s

        held = [forwarded(None) for _ in range(5)]
        eventually(lambda: server.status()["body_memory"] == 500_000)
        held += [forwarded("192.0.2.1") for _ in range(2)]
        eventually(lambda: server.status()["body_memory"] == 700_000)
        check(rest_of(forwarded("192.0.2.1")).startswith(b"HTTP/1.1 503 "), "whom it names has one")
        for s in held:
            s.close()


main(globals())
