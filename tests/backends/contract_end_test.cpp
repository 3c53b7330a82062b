// Goal: a backend may end with operations in flight: it touches them no more, and their results, which nobody takes,
// leak nothing.
#include <poll.h>
#include <sched.h>

#include <string>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

TEST_CASE_TEMPLATE("a backend that ends with operations in flight touches them no more and leaks nothing", Kind,
                   EVLUA_ALL_KINDS) {
  for (const int polls : {0, 1, 5}) {
    on_each_run<Kind>(100, [polls](Harness& h) {
      const auto [a, b] = h.pair();
      const auto [c, d] = h.pair(Family::tcp);
      const auto [e, f] = h.pair();
      sockaddr_storage address;
      socklen_t length;
      const int listener = h.listen(address, length);
      const std::string path = h.path("file");
      const std::string fifo = h.path("fifo");
      h.make_file(path, "contents");
      h.make_fifo(fifo);
      REQUIRE(h.send_all(e, "there already"));
      char room[16];
      std::vector<TestOp> ops(12);
      set_recv(ops[0], b, room, 4);     // nothing comes
      set_recv(ops[1], d, nullptr, 0);  // nothing comes, and no buffer
      set_recv(ops[2], f, nullptr, 4);  // there already: a buffer without a taker
      set_recv(ops[3], f, nullptr, 4);
      set_accept(ops[4], listener);  // orphans: connections ...
      set_accept(ops[5], listener);
      set_connect(ops[6], h.socket(), address, length);
      set_open(ops[7], path, O_RDONLY);  // ... and files
      set_open(ops[8], path, O_RDWR | O_CREAT);
      set_open(ops[9], fifo, O_RDONLY);
      set_poll(ops[10], a, POLLIN);
      set_poll(ops[11], c, POLLOUT);
      for (TestOp& op : ops) h.submit(op);
      ReadyList unseen;  // results that were handed over, but nobody looked at
      for (int i = 0; i < polls; ++i) {
        h.backend().poll(unseen);
        if (h.is_simulated()) h.backend().wait(unseen, h.backend().now() + 100 * kMicrosecond);
      }
      while (Op* op = unseen.pop_front()) {
        if (returns_descriptor(op->code)) h.own(op->res);
        if (op->code == OpCode::recv) Lease::from(*op, h.backend().buffers());
      }
      h.destroy_backend();
      for (char& c2 : room) c2 = 0;  // ours again: a write from the kernel would now be a stray one
    });
  }
}

TEST_CASE_TEMPLATE("a file that was opened while nobody looked is closed when the backend ends", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(20, [](Harness& h) {
    const std::string path = h.path("file");
    h.make_file(path, "contents");
    TestOp open;
    set_open(open, path, O_RDONLY);
    h.submit(open);
    // Backends that open on a thread tell by a message; the others need no more than time.
    const Instant deadline = monotonic_now() + (h.is_simulated() ? 0 : 30 * kMillisecond);
    while (!h.has_messages() && monotonic_now() < deadline) ::sched_yield();
    h.destroy_backend();
  });
}

TEST_CASE_TEMPLATE("a backend that was never started, or never used, ends quietly", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(3, [](Harness&) {});
  SimWorld world(1);
  const std::unique_ptr<Backend> unused = Kind::make(&world);
  CHECK(unused->in_flight() == 0);
}

TEST_CASE_TEMPLATE("a close that is in flight when the backend ends still closes", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    const auto [a, b] = h.pair();
    TestOp close(OpCode::close, b);
    h.disown(b);
    h.submit(close);
    h.destroy_backend();
    if (!h.is_simulated()) {
      char byte;
      CHECK(::recv(a, &byte, 1, MSG_DONTWAIT) == 0);
    }  // on_each_run sees leaked descriptors in either case
  });
}

}  // namespace
}  // namespace evlua::test
