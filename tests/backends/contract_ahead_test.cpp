// Goal: receiving ahead changes nothing that can be seen but the cost: every byte arrives once and in order, whether a
// receive waited for it or not, and a recv_rest leaves the descriptor to whoever receives next.
#include <string>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

constexpr Family kFamilies[] = {Family::unix_domain, Family::tcp};

/// What a finished receive has brought; gives the buffer back.
std::string taken(Harness& h, TestOp& op) {
  const Lease lease = Lease::from(op, h.backend().buffers());
  return std::string(lease.chars(), lease.size());
}

std::string receive_ahead(Harness& h, int fd) {
  TestOp recv;
  set_recv_ahead(recv, fd);
  REQUIRE(h.run(recv) >= 0);
  return taken(h, recv);
}

/// Until `bytes` have come.
std::string receive_ahead(Harness& h, int fd, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    const std::string more = receive_ahead(h, fd);
    if (more.empty()) break;
    text += more;
  }
  return text;
}

std::string take_rest(Harness& h, int fd) {
  TestOp rest;
  set_recv_rest(rest, fd);
  REQUIRE(h.run(rest) >= 0);
  return taken(h, rest);
}

/// Different everywhere, so that a piece lost or moved shows.
std::string numbered(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + " ";
  text.resize(bytes);
  return text;
}

TEST_CASE_TEMPLATE("requests and answers go on and on, to the end of the stream", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      for (int i = 0; i < 20; ++i) {
        const std::string question = "question " + std::to_string(i);
        TestOp recv;
        set_recv_ahead(recv, b);
        h.submit(recv);
        REQUIRE(h.send_all(a, question));
        REQUIRE(h.finish(recv) > 0);
        std::string got = taken(h, recv);
        got += receive_ahead(h, b, question.size() - got.size());
        CHECK(got == question);
        REQUIRE(h.send_all(b, "answer"));
        CHECK(h.receive(a, 6) == "answer");
      }
      h.close(a);
      CHECK(receive_ahead(h, b).empty());
      CHECK(receive_ahead(h, b).empty());  // and again
    }
  });
}

TEST_CASE_TEMPLATE("what comes while no receive waits is kept, in order", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      REQUIRE(h.send_all(a, "1"));
      CHECK(receive_ahead(h, b) == "1");
      std::string sent;
      for (int i = 0; i < 10; ++i) {
        sent += std::to_string(i);
        REQUIRE(h.send_all(a, std::to_string(i)));
        h.linger(kMillisecond);
      }
      CHECK(receive_ahead(h, b, sent.size()) == sent);
      REQUIRE(h.send_all(a, "more"));
      CHECK(receive_ahead(h, b, 4) == "more");
    }
  });
}

TEST_CASE_TEMPLATE("a peer that sends without end is held back, and loses nothing", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(3, [](Harness& h) {
    const auto [a, b] = h.pair(Family::tcp);
    const std::string text = numbered(64UL << 20);
    REQUIRE(h.send_all(a, "x"));
    CHECK(receive_ahead(h, b) == "x");
    TestOp send;
    std::size_t sent = 0;
    // Nobody receives: the sender must come to a stop.
    while (sent < text.size()) {
      set_send(send, a, std::string_view(text).substr(sent));
      h.submit(send);
      h.linger(50 * kMillisecond);
      if (!send.is_ready()) break;
      REQUIRE(send.res > 0);
      sent += static_cast<std::size_t>(send.res);
    }
    REQUIRE(sent < text.size());
    std::string got;
    while (!send.is_ready()) got += receive_ahead(h, b);
    REQUIRE(send.res > 0);
    sent += static_cast<std::size_t>(send.res);
    got += receive_ahead(h, b, sent - got.size());
    CHECK(got == text.substr(0, sent));
  });
}

TEST_CASE_TEMPLATE("a rest ends receiving ahead at once, and the descriptor is received from as before", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      CHECK(take_rest(h, b).empty());  // nothing was begun
      for (int round = 0; round < 3; ++round) {
        REQUIRE(h.send_all(a, "head"));
        CHECK(receive_ahead(h, b, 4) == "head");
        CHECK(take_rest(h, b).empty());
        REQUIRE(h.send_all(a, "body"));
        CHECK(h.receive(b, 4) == "body");
      }
    }
  });
}

TEST_CASE_TEMPLATE("a rest brings what came too early", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    for (const Family family : kFamilies) {
      const auto [a, b] = h.pair(family);
      REQUIRE(h.send_all(a, "head"));
      CHECK(receive_ahead(h, b, 4) == "head");
      const std::string body = numbered(h.is_simulated() ? 500 : 100'000);
      REQUIRE(h.send_all(a, body));
      h.linger();
      std::string got = take_rest(h, b);
      got += h.receive(b, body.size() - got.size());
      CHECK(got == body);
      TestOp recv;
      char room;
      set_recv(recv, b, &room, 1);
      h.submit(recv);
      h.linger();
      CHECK_FALSE(recv.is_ready());
      h.close(a);
      CHECK(h.finish(recv) == 0);
    }
  });
}

TEST_CASE_TEMPLATE("a rest while data is arriving loses nothing", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    const auto [a, b] = h.pair();
    const std::string text = numbered(5'000);
    std::size_t sent = 0;
    std::string got;
    for (int round = 0; sent < text.size(); ++round) {
      TestOp send;
      set_send(send, a, std::string_view(text).substr(sent, 50));
      TestOp recv;
      TestOp rest;
      set_recv_ahead(recv, b);
      set_recv_rest(rest, b);
      if (round % 2 == 0) h.submit(recv);
      h.submit(send);
      if (round % 3 == 0) h.poll();
      if (round % 2 == 0) {
        REQUIRE(h.finish(recv) > 0);
        got += taken(h, recv);
      }
      h.submit(rest);
      REQUIRE(h.finish(rest) >= 0);
      got += taken(h, rest);
      REQUIRE(h.finish(send) > 0);
      sent += static_cast<std::size_t>(send.res);
      got += h.receive(b, sent - got.size());
    }
    CHECK(got == text);
  });
}

TEST_CASE_TEMPLATE("a cancelled receive takes nothing with it", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    std::string sent;
    std::string got;
    for (int round = 0; round < 10; ++round) {
      TestOp recv;
      set_recv_ahead(recv, b);
      h.submit(recv);
      if (round % 2 == 0) h.poll();
      TestOp send;
      const std::string text = std::to_string(round);
      set_send(send, a, text);
      if (round % 3 == 0) h.submit(send);
      for (int twice = 0; twice < 2 && !recv.is_ready(); ++twice) h.cancel(recv);
      const std::int32_t result = h.finish(recv);
      CHECK((result == -ECANCELED || result > 0));
      if (result > 0) got += taken(h, recv);
      if (round % 3 != 0) h.submit(send);
      REQUIRE(h.finish(send) == 1);
      sent += text;
    }
    got += receive_ahead(h, b, sent.size() - got.size());
    CHECK(got == sent);
  });
}

TEST_CASE_TEMPLATE("a descriptor that was received ahead from can be closed, and its number used again", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    for (const Family family : kFamilies) {
      for (int round = 0; round < 20; ++round) {
        const auto [a, b] = h.pair(family);
        REQUIRE(h.send_all(a, "old"));
        CHECK(receive_ahead(h, b, 3) == "old");
        if (round % 2 == 0) REQUIRE(h.send_all(a, "stale"));
        if (round % 3 == 0) h.linger(kMillisecond);
        h.close(b);
        if (round % 2 == 1) CHECK(h.receive(a, 1).empty());  // the peer learns of it
        h.close(a);
      }
    }
  });
}

TEST_CASE_TEMPLATE("a connection that is reset says so", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(1, [](Harness& h) {
    if (h.is_simulated()) return;
    for (const bool waits : {true, false}) {
      const auto [a, b] = h.pair(Family::tcp);
      REQUIRE(h.send_all(a, "x"));
      CHECK(receive_ahead(h, b) == "x");
      TestOp recv;
      set_recv_ahead(recv, b);
      if (waits) {
        h.submit(recv);
        h.poll();
      }
      const linger none = {1, 0};
      REQUIRE(::setsockopt(a, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0);
      h.close(a);
      h.linger();
      if (!waits) h.submit(recv);
      CHECK(h.finish(recv) == -ECONNRESET);
    }
  });
}

TEST_CASE_TEMPLATE("hundreds of descriptors received ahead from want more buffers than there are", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(2, [](Harness& h) {
    constexpr std::size_t kPairs = 400;
    std::vector<std::array<int, 2>> pairs;
    for (std::size_t i = 0; i < kPairs; ++i) pairs.push_back(h.pair());
    std::vector<TestOp> recvs(kPairs);
    for (int round = 0; round < 3; ++round) {
      for (std::size_t i = 0; i < kPairs; ++i) {
        set_recv_ahead(recvs[i], pairs[i][1]);
        h.submit(recvs[i]);
      }
      h.poll();
      for (const auto& pair : pairs) REQUIRE(h.send_all(pair[0], "payload"));
      std::vector<Lease> leases;  // all held at once
      for (TestOp& recv : recvs) {
        REQUIRE(h.finish(recv) > 0);
        leases.push_back(Lease::from(recv, h.backend().buffers()));
      }
      for (std::size_t i = 0; i < kPairs; ++i) {
        std::string got(leases[i].chars(), leases[i].size());
        leases[i].reset();
        got += receive_ahead(h, pairs[i][1], 7 - got.size());
        CHECK(got == "payload");
      }
    }
  });
}

TEST_CASE_TEMPLATE("receiving ahead begins, ends and is given up while the submission queue is full", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(3, [](Harness& h) {
    constexpr std::size_t kPairs = 300;
    std::vector<std::array<int, 2>> pairs;
    for (std::size_t i = 0; i < kPairs; ++i) pairs.push_back(h.pair());
    std::vector<TestOp> recvs(kPairs);
    for (std::size_t i = 0; i < kPairs; ++i) {
      set_recv_ahead(recvs[i], pairs[i][1]);
      h.submit(recvs[i]);
    }
    // The latest are in the backlog.
    for (std::size_t i = 0; i < kPairs; i += 3) h.cancel(recvs[i]);
    for (std::size_t i = 0; i < kPairs; i += 3) REQUIRE(h.finish(recvs[i]) == -ECANCELED);
    std::vector<TestOp> rests(kPairs);
    for (std::size_t i = 0; i < kPairs; i += 3) {
      set_recv_rest(rests[i], pairs[i][1]);
      h.submit(rests[i]);
    }
    for (std::size_t i = 0; i < kPairs; i += 3) REQUIRE(h.finish(rests[i]) == 0);
    for (std::size_t i = 0; i < kPairs; ++i) REQUIRE(h.send_all(pairs[i][0], "x"));
    for (std::size_t i = 0; i < kPairs; ++i) {
      if (i % 3 == 0) {
        CHECK(h.receive(pairs[i][1], 1) == "x");
      } else {
        REQUIRE(h.finish(recvs[i]) == 1);
        CHECK(taken(h, recvs[i]) == "x");
      }
    }
    std::vector<TestOp> closes(kPairs);
    for (std::size_t i = 0; i < kPairs; ++i) {
      closes[i].code = OpCode::close;
      closes[i].fd = pairs[i][1];
      h.disown(pairs[i][1]);
      h.submit(closes[i]);
    }
    for (std::size_t i = 0; i < kPairs; ++i) {
      REQUIRE(h.finish(closes[i]) == 0);
      CHECK(h.receive(pairs[i][0], 1).empty());
    }
  });
}

TEST_CASE_TEMPLATE("a backend may end while it receives ahead", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    std::vector<std::array<int, 2>> pairs;
    for (int i = 0; i < 6; ++i) pairs.push_back(h.pair());
    for (const auto& pair : pairs) {
      REQUIRE(h.send_all(pair[0], "x"));
      CHECK(receive_ahead(h, pair[1]) == "x");
    }
    std::vector<TestOp> ops(6);
    REQUIRE(h.send_all(pairs[0][0], "kept"));
    h.linger(kMillisecond);
    for (std::size_t i = 1; i < 3; ++i) {
      set_recv_ahead(ops[i], pairs[i][1]);
      h.submit(ops[i]);
    }
    set_recv_rest(ops[3], pairs[3][1]);
    h.submit(ops[3]);
    h.poll();
    set_recv_rest(ops[4], pairs[4][1]);
    h.submit(ops[4]);
    h.destroy_backend();
  });
}

}  // namespace
}  // namespace evlua::test
