// Goal: what core/backend.h promises holds for every backend, on connections: each operation gets exactly one result,
// later than submit; bytes arrive whole and in order; waits end when they should.
#include <sys/uio.h>

#include <string>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

/// Bytes that tell their place.
std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('!' + (i * 31 + i / 251) % 90);
  return text;
}

constexpr Family kFamilies[] = {Family::unix_domain, Family::tcp};

TEST_CASE_TEMPLATE("an operation is ready exactly once, and never inside submit", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    std::vector<TestOp> ops(64);
    std::size_t submitted = 0;
    for (TestOp& op : ops) {
      h.submit(op);
      CHECK(h.backend().in_flight() == ++submitted);
    }
    REQUIRE(h.run_until([&h] { return h.backend().in_flight() == 0; }));
    h.linger();
    for (TestOp& op : ops) {
      CHECK(op.times_ready == 1);
      CHECK(op.res == 0);
    }
    h.poll();
    CHECK_FALSE(h.backend().has_work());
  });
}

TEST_CASE_TEMPLATE("an operation may be submitted again as soon as it is ready", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    TestOp op;
    for (int round = 0; round < 100; ++round) {
      op.renew();
      REQUIRE(h.run(op) == 0);
    }
  });
}

TEST_CASE_TEMPLATE("a megabyte passes whole and in order, in small and large pieces", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(20, [](Harness& h) {
    const std::string text = pattern(1 << 20);
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      std::string got(text.size(), '\0');
      std::size_t sent = 0;
      std::size_t received = 0;
      std::size_t piece = 1;
      TestOp send;
      TestOp recv;
      while (received < text.size()) {
        if (!send.in_flight() && sent < text.size()) {
          set_send(send, a, std::string_view(text).substr(sent, piece % 200'000 + 1));
          h.submit(send);
        }
        if (!recv.in_flight()) {
          set_recv(recv, b, got.data() + received, std::min<std::size_t>(text.size() - received, piece % 70'000 + 1));
          h.submit(recv);
        }
        REQUIRE(h.run_until([&] { return send.is_ready() || recv.is_ready(); }));
        if (send.is_ready() && sent < text.size()) {
          REQUIRE(send.res > 0);
          sent += static_cast<std::size_t>(send.res);
          send.renew();
        }
        if (recv.is_ready()) {
          REQUIRE(recv.res > 0);
          received += static_cast<std::size_t>(recv.res);
        }
        piece = piece * 7 + 13;
      }
      REQUIRE(h.run_until([&] { return !send.in_flight(); }));
      CHECK(got == text);
    }
  });
}

TEST_CASE_TEMPLATE("sends submitted together on one connection arrive in that order", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const std::string text = pattern(16 * 100);
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      std::vector<TestOp> sends(16);
      for (std::size_t i = 0; i < sends.size(); ++i) {
        set_send(sends[i], a, std::string_view(text).substr(i * 100, 100));
        h.submit(sends[i]);
      }
      std::string expected;
      for (std::size_t i = 0; i < sends.size(); ++i) {
        REQUIRE(h.finish(sends[i]) > 0);
        expected += text.substr(i * 100, static_cast<std::size_t>(sends[i].res));
      }
      CHECK(h.receive(b, expected.size()) == expected);
    }
  });
}

TEST_CASE_TEMPLATE("receives submitted together take the bytes that are there in that order", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const std::string text = pattern(64);
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      REQUIRE(h.send_all(a, text));
      char parts[16][4] = {};
      std::vector<TestOp> recvs(16);
      for (std::size_t i = 0; i < recvs.size(); ++i) {
        set_recv(recvs[i], b, parts[i], 4);
        h.submit(recvs[i]);
      }
      std::string got;
      for (std::size_t i = 0; i < recvs.size(); ++i) {
        REQUIRE(h.finish(recvs[i]) > 0);
        got.append(parts[i], static_cast<std::size_t>(recvs[i].res));
      }
      CHECK(got == text.substr(0, got.size()));
    }
  });
}

TEST_CASE_TEMPLATE("receives that wait together share what comes, each byte going to one of them", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const std::string text = pattern(64);  // no character twice
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      char rooms[16][4] = {};
      std::vector<TestOp> recvs(16);
      for (std::size_t i = 0; i < recvs.size(); ++i) {
        set_recv(recvs[i], b, rooms[i], 4);
        h.submit(recvs[i]);
      }
      h.linger();
      REQUIRE(h.send_all(a, text));
      std::vector<std::string> parts;
      for (std::size_t i = 0; i < recvs.size(); ++i) {
        REQUIRE(h.finish(recvs[i]) > 0);
        parts.emplace_back(rooms[i], static_cast<std::size_t>(recvs[i].res));
      }
      std::sort(parts.begin(), parts.end(),
                [&text](const std::string& x, const std::string& y) { return text.find(x) < text.find(y); });
      std::string got;
      for (const std::string& part : parts) got += part;
      CHECK(got == text.substr(0, got.size()));
    }
  });
}

TEST_CASE_TEMPLATE("a receive returns what is there, and the rest stays for the next", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      REQUIRE(h.send_all(a, "hello, world"));
      char room[5];
      TestOp first;
      set_recv(first, b, room, sizeof(room));
      const std::int32_t got = h.run(first);
      REQUIRE(got > 0);
      REQUIRE(got <= 5);
      const std::string text = std::string(room, static_cast<std::size_t>(got));
      CHECK(text + h.receive(b, 12 - text.size()) == "hello, world");
    }
  });
}

TEST_CASE_TEMPLATE("a pending receive does not hold up a send on the same connection", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair(Family::tcp);
    char room[16];
    TestOp recv;
    set_recv(recv, a, room, sizeof(room));
    h.submit(recv);
    h.poll();
    REQUIRE(h.send_all(a, "ping"));
    CHECK(h.receive(b, 4) == "ping");
    CHECK_FALSE(recv.is_ready());
    REQUIRE(h.send_all(b, "p"));
    CHECK(h.finish(recv) == 1);
  });
}

TEST_CASE_TEMPLATE("a receive without memory of its own is lent some, of at most the size asked for", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const std::uint32_t size : {0U, 3U, 100'000U}) {
      const auto [a, b] = h.pair();
      TestOp recv;
      set_recv(recv, b, nullptr, size);
      h.submit(recv);
      h.poll();
      CHECK(h.backend().buffers().lent() == 0);  // while it waits it holds none
      REQUIRE(h.send_all(a, "borrowed"));
      const std::int32_t got = h.finish(recv);
      REQUIRE(got > 0);
      CHECK(got <= (size == 3 ? 3 : 8));
      CHECK(recv.buffer != kNoBuffer);
      Lease lease = Lease::from(recv, h.backend().buffers());
      CHECK(std::string(lease.chars(), lease.size()) == std::string("borrowed", static_cast<std::size_t>(got)));
    }
  });
}

TEST_CASE_TEMPLATE("a receive that ends without bytes keeps no buffer", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    TestOp recv;
    set_recv(recv, b, nullptr, 0);
    h.submit(recv);
    h.poll();
    h.close(a);
    CHECK(h.finish(recv) == 0);
    CHECK(Lease::from(recv, h.backend().buffers()).empty());
    CHECK(h.backend().buffers().lent() == 0);
  });
}

TEST_CASE_TEMPLATE("messages are gathered from and scattered to several places", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    char one[] = "one ";
    char two[] = "two";
    iovec out[] = {{one, 4}, {two, 3}};
    msghdr message{};
    message.msg_iov = out;
    message.msg_iovlen = 2;
    TestOp send(OpCode::sendmsg, a);
    send.args.message = {&message, 0};
    const std::int32_t sent = h.run(send);
    REQUIRE(sent > 0);
    char head[2] = {};
    char tail[16] = {};
    iovec in[] = {{head, 2}, {tail, 16}};
    msghdr incoming{};
    incoming.msg_iov = in;
    incoming.msg_iovlen = 2;
    TestOp recv(OpCode::recvmsg, b);
    recv.args.message = {&incoming, 0};
    const std::int32_t got = h.run(recv);
    REQUIRE(got > 0);
    CHECK(got <= sent);
    const std::string text = (std::string(head, 2) + std::string(tail, 16)).substr(0, static_cast<std::size_t>(got));
    CHECK(text == std::string("one two").substr(0, text.size()));
  });
}

// -- waiting --------------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("a wait lasts until its deadline, with and without operations pending", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    const auto [a, b] = h.pair();
    char room[4];
    TestOp recv;
    for (const bool with_operation : {false, true}) {
      if (with_operation) {
        set_recv(recv, b, room, sizeof(room));
        h.submit(recv);
        h.linger();
      }
      for (const Duration time : {Duration{0}, 300 * kMicrosecond, 20 * kMillisecond}) {
        const Instant begin = h.backend().now();
        const Instant deadline = begin + time;
        // It may end early for reasons of its own; the program just waits again, but must not be made to spin.
        int waits = 0;
        for (; h.backend().now() < deadline; ++waits) h.wait(deadline);
        CHECK(waits <= 100);
        CHECK(h.backend().now() - begin < 10 * kSecond);
      }
    }
    h.wait(h.backend().now() - kSecond);  // in the past: no sleep
    CHECK_FALSE(recv.is_ready());
    REQUIRE(h.send_all(a, "x"));
    CHECK(h.finish(recv) == 1);
  });
}

TEST_CASE_TEMPLATE("poll does not wait", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    const auto [a, b] = h.pair();
    char room[4];
    TestOp recv;
    set_recv(recv, b, room, sizeof(room));
    h.submit(recv);
    const Instant begin = h.backend().now();
    for (int i = 0; i < 100; ++i) h.poll();
    CHECK(h.backend().now() - begin < 10 * kSecond);
    CHECK_FALSE(recv.is_ready());
    REQUIRE(h.send_all(a, "x"));
    const Instant deadline = h.backend().now() + Harness::kLimit;
    while (!recv.is_ready() && h.backend().now() < deadline) h.poll();  // polling alone gets it
    CHECK(h.finish(recv) == 1);
  });
}

}  // namespace
}  // namespace evlua::test
