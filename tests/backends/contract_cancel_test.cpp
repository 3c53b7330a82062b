// Goal: an operation that was asked to end still gets exactly one result, whenever the ask comes, and no byte,
// descriptor or buffer is lost with it.
#include <poll.h>

#include <string>
#include <vector>

#include "backends/sim/random.h"
#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

enum class When { before_poll, after_poll, after_data, with_data_not_reaped };
constexpr When kMoments[] = {When::before_poll, When::after_poll, When::after_data, When::with_data_not_reaped};

/// Submits `op`, which waits for one byte from `peer`, and cancels it at `when`.
void submit_and_cancel(Harness& h, TestOp& op, int peer, When when) {
  h.submit(op);
  TestOp send;
  set_send(send, peer, "x");
  switch (when) {
    case When::before_poll: break;
    case When::after_poll: h.linger(); break;
    case When::after_data: h.run(send); break;
    case When::with_data_not_reaped:
      h.linger();
      // Whether the byte is on its way, there, or has already been taken when the cancel comes: all is possible.
      h.submit(send);
      break;
  }
  if (op.in_flight()) h.cancel(op);
  if (send.in_flight()) h.finish(send);
  h.finish(op);
}

TEST_CASE_TEMPLATE("a cancelled receive has one result, and its byte is not lost", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const Family family : {Family::unix_domain, Family::tcp}) {
      for (const When when : kMoments) {
        const auto [a, b] = h.pair(family);
        char room = '-';
        TestOp recv;
        set_recv(recv, b, &room, 1);
        submit_and_cancel(h, recv, a, when);
        REQUIRE((recv.res == 1 || recv.res == -ECANCELED));
        if (when == When::before_poll || when == When::after_poll) REQUIRE(recv.res == -ECANCELED);
        REQUIRE(h.send_all(a, "y"));
        const bool byte_came = when == When::after_data || when == When::with_data_not_reaped;
        std::string text = recv.res == 1 ? std::string(1, room) : std::string();
        text += h.receive(b, (byte_came ? 2U : 1U) - text.size());
        CHECK(text == (byte_came ? "xy" : "y"));
        h.linger();
        CHECK(recv.times_ready == 1);
      }
    }
  });
}

TEST_CASE_TEMPLATE("a cancelled receive keeps no lent buffer", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const When when : kMoments) {
      const auto [a, b] = h.pair();
      TestOp recv;
      set_recv(recv, b, nullptr, 0);
      submit_and_cancel(h, recv, a, when);
      if (recv.res < 0) {
        CHECK(recv.res == -ECANCELED);
        CHECK(recv.buffer == kNoBuffer);
      } else {
        CHECK(Lease::from(recv, h.backend().buffers()).size() == 1);
      }
      CHECK(h.backend().buffers().lent() == 0);
    }
  });
}

TEST_CASE_TEMPLATE("asking twice to cancel is harmless", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    char room;
    TestOp recv;
    for (const bool poll_between : {false, true}) {
      set_recv(recv, b, &room, 1);
      h.submit(recv);
      h.linger(kMillisecond);
      h.cancel(recv);
      if (poll_between) h.poll();
      if (recv.in_flight()) h.cancel(recv);
      CHECK(h.finish(recv) == -ECANCELED);
    }
    // The connection is none the worse.
    REQUIRE(h.send_all(a, "z"));
    CHECK(h.receive(b, 1) == "z");
  });
}

TEST_CASE_TEMPLATE("the frame of a cancelled operation may be used again at once", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    const auto [a, b] = h.pair();
    char room;
    TestOp op;
    for (int round = 0; round < 200; ++round) {
      set_recv(op, b, &room, 1);
      h.submit(op);
      if (round % 3 == 0) h.poll();
      if (op.in_flight()) h.cancel(op);
      if (round % 5 == 0 && op.in_flight()) h.cancel(op);
      CHECK(h.finish(op) == -ECANCELED);
      // The same address, now something that must not be hit by a cancel that comes late.
      set_send(op, a, "x");
      CHECK(h.run(op) == 1);
      CHECK(h.receive(b, 1) == "x");
    }
  });
}

TEST_CASE_TEMPLATE("every kind of waiting can be cancelled", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    const auto [a, b] = h.pair();
    sockaddr_storage address;
    socklen_t length;
    const int listener = h.listen(address, length);
    const std::string fifo = h.path("fifo");
    h.make_fifo(fifo);
    // Fill one direction, so that a send waits.
    const std::string block(256 * 1024, 'x');
    TestOp full;
    for (;;) {
      set_send(full, a, block);
      h.submit(full);
      if (h.run_until([&full] { return full.is_ready(); }, 50 * kMillisecond)) {
        REQUIRE(full.res > 0);
        continue;
      }
      h.cancel(full);
      const std::int32_t rest = h.finish(full);
      if (rest == -ECANCELED) break;
      REQUIRE(rest > 0);
    }
    char room[4];
    iovec part{room, sizeof(room)};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    std::vector<TestOp> ops(8);
    set_recv(ops[0], a, room, sizeof(room));
    set_send(ops[1], a, block);
    set_accept(ops[2], listener);
    set_poll(ops[3], a, POLLIN);
    set_poll(ops[4], a, POLLOUT);
    set_open(ops[5], fifo, O_RDONLY);
    ops[6].code = OpCode::recvmsg;
    ops[6].fd = a;
    ops[6].args.message = {&message, 0};
    set_read(ops[7], a, room, sizeof(room));
    for (TestOp& op : ops) h.submit(op);
    h.linger(20 * kMillisecond);
    for (TestOp& op : ops) {
      CHECK_FALSE(op.is_ready());
      h.cancel(op);
    }
    for (TestOp& op : ops) CHECK(h.finish(op) == -ECANCELED);
  });
}

TEST_CASE_TEMPLATE("a cancelled connect or accept leaks no descriptor", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    sockaddr_storage address;
    socklen_t length;
    const int listener = h.listen(address, length);
    for (int round = 0; round < 20; ++round) {
      TestOp connect;
      TestOp accept;
      const int client = h.socket();
      set_connect(connect, client, address, length);
      set_accept(accept, listener);
      h.submit(accept);
      h.submit(connect);
      for (int polls = round % 4; polls > 0; --polls) h.poll();
      if (round % 2 == 0 && accept.in_flight()) h.cancel(accept);
      if (round % 3 == 0 && connect.in_flight()) h.cancel(connect);
      const std::int32_t connected = h.finish(connect);
      CHECK((connected == 0 || connected == -ECANCELED));
      // A connect that was cancelled may have reached the listener or not.
      if (connected != 0 && accept.in_flight()) h.cancel(accept);
      const std::int32_t accepted = h.finish(accept);
      CHECK((accepted >= 0 || accepted == -ECANCELED));
      if (accepted >= 0) h.close(h.own(accepted));
      h.close(client);
      if (accepted < 0) {  // take it out of the listener's queue, if it got there
        set_accept(accept, listener);
        h.submit(accept);
        h.linger();
        if (accept.in_flight()) h.cancel(accept);
        if (h.finish(accept) >= 0) h.close(h.own(accept.res));
      }
    }
  });
}

TEST_CASE_TEMPLATE("a cancelled file operation has one result, and an opened file is the caller's", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    const std::string path = h.path("file");
    h.make_file(path, "contents");
    const int fd = h.open(path, O_RDWR);
    REQUIRE(fd >= 0);
    for (int round = 0; round < 50; ++round) {
      char room[8];
      std::vector<TestOp> ops(4);
      set_open(ops[0], path, O_RDONLY);
      set_read(ops[1], fd, room, sizeof(room), 0);
      set_write(ops[2], fd, "contents", 0);
      ops[3].code = OpCode::fsync;
      ops[3].fd = fd;
      ops[3].args.fsync = {false};
      for (TestOp& op : ops) h.submit(op);
      for (int polls = round % 3; polls > 0; --polls) h.poll();
      for (TestOp& op : ops) {
        if (op.in_flight()) h.cancel(op);
      }
      for (TestOp& op : ops) {
        const std::int32_t result = h.finish(op);
        CHECK((result >= 0 || result == -ECANCELED));
      }
      if (ops[0].res >= 0) h.close(h.own(ops[0].res));
    }
  });
}

TEST_CASE_TEMPLATE("close after cancel and drain, with many operations in flight", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    for (int round = 0; round < 10; ++round) {
      const auto [a, b] = h.pair(round % 2 == 0 ? Family::tcp : Family::unix_domain);
      char rooms[16];
      std::vector<TestOp> recvs(16);
      TestOp poll;
      set_poll(poll, b, POLLIN);
      for (std::size_t i = 0; i < recvs.size(); ++i) {
        set_recv(recvs[i], b, &rooms[i], 1);
        h.submit(recvs[i]);
      }
      h.submit(poll);
      if (round % 3 == 0) h.poll();
      if (round % 3 == 1) REQUIRE(h.send_all(a, "abc"));
      for (TestOp& recv : recvs) {
        if (recv.in_flight()) h.cancel(recv);
      }
      if (poll.in_flight()) h.cancel(poll);
      for (TestOp& recv : recvs) {
        h.finish(recv);
        CHECK((recv.res == 1 || recv.res == -ECANCELED));
      }
      h.finish(poll);
      h.close(b);
      h.close(a);
    }
  });
}

TEST_CASE_TEMPLATE("streams stay whole under cancels at random moments", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(60, [](Harness& h) {
    const std::uint64_t seed = h.is_simulated() ? h.world()->seed() : (seed_wanted() != 0 ? seed_wanted() : 1);
    INFO("EVLUA_TEST_SEED=", seed);
    SimRandom random(seed);
    constexpr std::size_t kBytes = 20'000;
    std::string text(kBytes, '\0');
    for (char& c : text) c = static_cast<char>(random.next());
    std::vector<std::array<int, 2>> pairs;
    for (int i = 0; i < 4; ++i) pairs.push_back(h.pair(i % 2 == 0 ? Family::tcp : Family::unix_domain));
    struct Lane {
      TestOp send, recv;
      std::size_t sent = 0;
      std::string got;
      char room[4096];
    };
    std::vector<Lane> lanes(pairs.size());
    const auto is_done = [&] {
      return std::all_of(lanes.begin(), lanes.end(), [](const Lane& lane) {
        return lane.got.size() == kBytes && !lane.send.in_flight() && !lane.recv.in_flight();
      });
    };
    const Instant deadline = h.backend().now() + Harness::kLimit;
    while (!is_done()) {
      REQUIRE(h.backend().now() < deadline);
      bool anything = false;
      for (std::size_t i = 0; i < lanes.size(); ++i) {
        Lane& lane = lanes[i];
        if (lane.send.is_ready()) {
          REQUIRE((lane.send.res > 0 || lane.send.res == -ECANCELED));
          if (lane.send.res > 0) lane.sent += static_cast<std::size_t>(lane.send.res);
          lane.send.renew();
        }
        if (lane.recv.is_ready()) {
          REQUIRE((lane.recv.res > 0 || lane.recv.res == -ECANCELED));
          if (lane.recv.res > 0) lane.got.append(lane.room, static_cast<std::size_t>(lane.recv.res));
          lane.recv.renew();
        }
        if (!lane.send.in_flight() && lane.sent < kBytes) {
          set_send(lane.send, pairs[i][0], std::string_view(text).substr(lane.sent, 1 + random.below(3000)));
          h.submit(lane.send);
        }
        if (!lane.recv.in_flight() && lane.got.size() < kBytes) {
          set_recv(lane.recv, pairs[i][1], lane.room, 1 + random.below(sizeof(lane.room)));
          h.submit(lane.recv);
        }
        if (lane.send.in_flight() && random.below(3) == 0) h.cancel(lane.send);
        if (lane.recv.in_flight() && random.below(3) == 0) h.cancel(lane.recv);
        anything = anything || lane.send.in_flight() || lane.recv.in_flight();
      }
      if (random.below(2) == 0) {
        h.poll();
      } else if (anything) {
        h.wait(h.backend().now() + kMillisecond);
      }
    }
    for (const Lane& lane : lanes) CHECK(lane.got == text);
  });
}

}  // namespace
}  // namespace evlua::test
