// Goal: connections begin and end alike on every backend: accept, connect, the end of a stream, a peer that is gone, a
// descriptor that is none.
#include <poll.h>

#include <string>
#include <unordered_set>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

constexpr Family kFamilies[] = {Family::unix_domain, Family::tcp};

TEST_CASE_TEMPLATE("a receive ends with 0 when the peer closes or shuts down, after the last byte", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : kFamilies) {
      for (const bool by_close : {true, false}) {
        const auto [a, b] = h.pair(family);
        REQUIRE(h.send_all(a, "last"));
        if (by_close) {
          h.close(a);
        } else {
          TestOp shutdown;
          set_shutdown(shutdown, a, SHUT_WR);
          CHECK(h.run(shutdown) == 0);
        }
        CHECK(h.receive(b, 4) == "last");
        char room[4];
        TestOp recv;
        set_recv(recv, b, room, sizeof(room));
        CHECK(h.run(recv) == 0);
      }
    }
  });
}

TEST_CASE_TEMPLATE("shutdown ends a pending receive with 0", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      char room[4];
      TestOp recv;
      set_recv(recv, b, room, sizeof(room));
      h.submit(recv);
      h.poll();
      TestOp shutdown;
      set_shutdown(shutdown, b, SHUT_RDWR);
      CHECK(h.run(shutdown) == 0);
      CHECK(h.finish(recv) == 0);
      CHECK(h.receive(a, 1).empty());
    }
  });
}

TEST_CASE_TEMPLATE("sending to a peer that is gone is an error, not a signal", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      h.close(b);
      TestOp send;
      std::int32_t result = 1;
      // A TCP peer's answer to the first bytes tells; they may still be accepted.
      for (int tries = 0; result > 0 && tries < 1000; ++tries) {
        set_send(send, a, "anybody there?");
        result = h.run(send);
      }
      CHECK((result == -EPIPE || result == -ECONNRESET));
    }
  });
}

TEST_CASE_TEMPLATE("connecting where nobody listens is refused", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    sockaddr_storage address;
    socklen_t length;
    h.close(h.listen(address, length));
    TestOp connect;
    set_connect(connect, h.socket(), address, length);
    CHECK(h.run(connect) == -ECONNREFUSED);
  });
}

TEST_CASE_TEMPLATE("connections are accepted whichever side comes first, and the peer is named", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    sockaddr_storage address;
    socklen_t length;
    const int listener = h.listen(address, length);
    for (const bool accept_first : {true, false}) {
      sockaddr_storage peer{};
      socklen_t peer_length = sizeof(peer);
      TestOp accept;
      TestOp connect;
      set_accept(accept, listener, reinterpret_cast<sockaddr*>(&peer), &peer_length);
      const int client = h.socket();
      set_connect(connect, client, address, length);
      if (accept_first) {
        h.submit(accept);
        h.linger();
        CHECK_FALSE(accept.is_ready());
      }
      CHECK(h.run(connect) == 0);
      if (!accept_first) h.submit(accept);
      const int server = h.own(h.finish(accept));
      REQUIRE(server >= 0);
      CHECK(peer.ss_family == AF_INET);
      CHECK(peer_length == sizeof(sockaddr_in));
      CHECK(reinterpret_cast<sockaddr_in&>(peer).sin_addr.s_addr == htonl(INADDR_LOOPBACK));
      REQUIRE(h.send_all(client, "hello"));
      CHECK(h.receive(server, 5) == "hello");
      REQUIRE(h.send_all(server, "welcome"));
      CHECK(h.receive(client, 7) == "welcome");
    }
  });
}

TEST_CASE_TEMPLATE("several accepts on one listener each get a connection of their own", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    sockaddr_storage address;
    socklen_t length;
    const int listener = h.listen(address, length);
    std::vector<TestOp> accepts(8);
    std::vector<TestOp> connects(8);
    for (TestOp& accept : accepts) {
      set_accept(accept, listener);
      h.submit(accept);
    }
    for (TestOp& connect : connects) {
      set_connect(connect, h.socket(), address, length);
      h.submit(connect);
    }
    std::unordered_set<int> fds;
    for (TestOp& connect : connects) CHECK(h.finish(connect) == 0);
    for (TestOp& accept : accepts) fds.insert(h.own(h.finish(accept)));
    CHECK(fds.size() == 8);
    CHECK(fds.count(-1) == 0);
  });
}

TEST_CASE_TEMPLATE("poll tells what is ready, once it is", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    TestOp writable;
    set_poll(writable, a, POLLOUT);
    CHECK((h.run(writable) & POLLOUT) != 0);
    TestOp readable;
    set_poll(readable, b, POLLIN);
    h.submit(readable);
    h.linger();
    CHECK_FALSE(readable.is_ready());
    REQUIRE(h.send_all(a, "x"));
    CHECK((h.finish(readable) & POLLIN) != 0);
    CHECK(h.receive(b, 1) == "x");  // poll took nothing
    TestOp hung_up;
    set_poll(hung_up, b, POLLIN);
    h.submit(hung_up);
    h.close(a);
    CHECK((h.finish(hung_up) & (POLLIN | POLLHUP)) != 0);
  });
}

TEST_CASE_TEMPLATE("operations on a closed descriptor end with EBADF", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    h.close(b);
    for (const int fd : {b, -1, 1'000'000'000}) {
      char room[4];
      TestOp op;
      set_recv(op, fd, room, sizeof(room));
      CHECK(h.run(op) == -EBADF);
      set_recv(op, fd, nullptr, 0);
      CHECK(h.run(op) == -EBADF);
      set_send(op, fd, "x");
      CHECK(h.run(op) == -EBADF);
      set_accept(op, fd);
      CHECK(h.run(op) == -EBADF);
      set_read(op, fd, room, sizeof(room));
      CHECK(h.run(op) == -EBADF);
      set_write(op, fd, "x");
      CHECK(h.run(op) == -EBADF);
      set_poll(op, fd, POLLIN);
      CHECK(h.run(op) == -EBADF);
      set_shutdown(op, fd, SHUT_RDWR);
      CHECK(h.run(op) == -EBADF);
      for (const OpCode code : {OpCode::close, OpCode::fsync, OpCode::truncate}) {
        op.renew();
        op.code = code;
        op.args = {};
        CHECK(h.run(op) == -EBADF);
      }
    }
  });
}

}  // namespace
}  // namespace evlua::test
