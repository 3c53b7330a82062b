// Goal: what is io_uring's own and the contract suite cannot see: when the kernel is entered, what happens when a queue
// or the buffers run out, the ways to wake, the paths of older kernels, and the kernel's quirks.
#include <poll.h>
#include <sys/un.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "backends/uring/backend.h"
#include "tests/backends/harness.h"

namespace evlua::test {
namespace {

/// A harness around a backend whose own members stay in reach.
struct UringHarness {
  explicit UringHarness(const UringBackend::Options& options = {}) : UringHarness(new UringBackend(options)) {}

  UringBackend& uring;
  Harness h;

 private:
  explicit UringHarness(UringBackend* backend) : uring(*backend), h(std::unique_ptr<Backend>(backend), nullptr) {
    REQUIRE(h.start());
  }
};

UringBackend::Options small_queues(unsigned submissions, unsigned completions) {
  UringBackend::Options options;
  options.ring = {.submissions = submissions, .completions = completions};
  return options;
}

/// As on Linux 6.1.
UringBackend::Options old_kernel() {
  UringBackend::Options options;
  options.allowed = {.truncate = false, .absolute_timer = false, .no_iowait = false, .send_msg_ring = false};
  return options;
}

// -- entering the kernel --------------------------------------------------------------------------------------------

TEST_CASE("polling an idle backend makes no system call") {
  UringHarness u;
  const auto [a, b] = u.h.pair();
  char room[4];
  TestOp recv;
  set_recv(recv, b, room, sizeof(room));
  u.h.submit(recv);
  u.h.poll();
  const std::uint64_t before = u.uring.counters().enters;
  for (int i = 0; i < 1000; ++i) u.h.poll();
  CHECK(u.uring.counters().enters == before);
  CHECK_FALSE(u.uring.has_work());
  u.h.cancel(recv);
  CHECK(u.h.finish(recv) == -ECANCELED);
}

TEST_CASE("a batch is handed over, waited for and reaped with one system call") {
  UringHarness u;
  std::vector<TestOp> ops(200);
  for (TestOp& op : ops) u.h.submit(op);
  CHECK(u.uring.has_work());
  const std::uint64_t before = u.uring.counters().enters;
  u.h.wait(kNever);
  CHECK(u.uring.counters().enters == before + 1);
  for (const TestOp& op : ops) CHECK(op.is_ready());
}

TEST_CASE("an echo takes one system call per turn, whoever is busy") {
  UringHarness u;
  constexpr std::size_t kPairs = 20;
  std::vector<std::array<int, 2>> pairs;
  for (std::size_t i = 0; i < kPairs; ++i) pairs.push_back(u.h.pair());
  std::vector<TestOp> recvs(kPairs);
  std::vector<TestOp> sends(kPairs);
  std::vector<std::array<char, 8>> rooms(kPairs);
  const std::uint64_t before = u.uring.counters().enters;
  constexpr std::uint64_t kTurns = 50;
  for (std::uint64_t turn = 0; turn < kTurns; ++turn) {
    for (std::size_t i = 0; i < kPairs; ++i) {
      set_recv(recvs[i], pairs[i][1], rooms[i].data(), rooms[i].size());
      set_send(sends[i], pairs[i][0], "12345678");
      u.h.submit(recvs[i]);
      u.h.submit(sends[i]);
    }
    while (u.uring.in_flight() > 0) u.h.wait(kNever);
  }
  // The kernel may need a second entering to run what the sends set off.
  CHECK(u.uring.counters().enters - before <= 2 * kTurns);
}

TEST_CASE("completions that already wait are not slept on") {
  UringHarness u;
  const auto [a, b] = u.h.pair();
  TestOp nop;
  char room[4];
  TestOp recv;
  set_recv(recv, b, room, sizeof(room));
  u.h.submit(recv);
  u.h.submit(nop);
  u.h.wait(kNever);  // the nop is ready at once, the receive never
  CHECK(nop.is_ready());
  CHECK_FALSE(recv.is_ready());
  u.h.cancel(recv);
  CHECK(u.h.finish(recv) == -ECANCELED);
}

// -- queues that are full -------------------------------------------------------------------------------------------

TEST_CASE("operations beyond the submission queue wait in the backlog, in order") {
  UringHarness u(small_queues(4, 16));
  const auto [a, b] = u.h.pair();
  constexpr std::size_t kCount = 100;
  std::vector<TestOp> sends(kCount);
  std::string text(kCount, '\0');
  for (std::size_t i = 0; i < kCount; ++i) text[i] = static_cast<char>('!' + i % 90);
  for (std::size_t i = 0; i < kCount; ++i) {
    set_send(sends[i], a, std::string_view(text).substr(i, 1));
    u.h.submit(sends[i]);
  }
  CHECK(u.uring.counters().backlogged == kCount - 4);
  CHECK(u.uring.in_flight() == kCount);
  for (TestOp& send : sends) CHECK(u.h.finish(send) == 1);
  CHECK(u.h.receive(b, kCount) == text);
}

TEST_CASE("cancels come through a full submission queue, and out of the backlog") {
  UringHarness u(small_queues(4, 16));
  const auto [a, b] = u.h.pair();
  char rooms[12];
  std::vector<TestOp> recvs(12);
  for (std::size_t i = 0; i < recvs.size(); ++i) {
    set_recv(recvs[i], b, &rooms[i], 1);
    u.h.submit(recvs[i]);
  }
  // Four are in entries, the others in the backlog; the queue has no room for a cancel.
  for (TestOp& recv : recvs) u.h.cancel(recv);
  CHECK(u.uring.in_flight() == recvs.size());
  for (TestOp& recv : recvs) CHECK(u.h.finish(recv) == -ECANCELED);
}

TEST_CASE("an operation that ends while its cancel waits for room is delivered once") {
  UringHarness u(small_queues(4, 16));
  const auto [a, b] = u.h.pair();
  char room;
  TestOp recv;
  set_recv(recv, b, &room, 1);
  u.h.submit(recv);
  u.h.poll();
  for (int round = 0; round < 20; ++round) {
    // The byte arrives with the same entering that the cancel is too late for.
    TestOp send;
    set_send(send, a, "x");
    u.h.submit(send);
    std::vector<TestOp> nops(3);
    for (TestOp& nop : nops) u.h.submit(nop);
    u.h.cancel(recv);
    REQUIRE(u.h.finish(send) == 1);
    const std::int32_t got = u.h.finish(recv);
    REQUIRE((got == 1 || got == -ECANCELED));
    if (got != 1) CHECK(u.h.receive(b, 1) == "x");
    for (TestOp& nop : nops) CHECK(u.h.finish(nop) == 0);
    set_recv(recv, b, &room, 1);
    u.h.submit(recv);
    u.h.poll();
  }
  u.h.cancel(recv);
  CHECK(u.h.finish(recv) == -ECANCELED);
}

TEST_CASE("more operations can wait than the completion queue holds, and all complete at once") {
  UringHarness u(small_queues(8, 32));
  constexpr std::size_t kCount = 500;
  const auto [a, b] = u.h.pair();
  std::vector<TestOp> polls(kCount);
  for (TestOp& poll : polls) {
    set_poll(poll, b, POLLIN);
    u.h.submit(poll);
  }
  u.h.linger();
  CHECK(u.uring.in_flight() == kCount);
  // Others still get through while these wait.
  TestOp nop;
  CHECK(u.h.run(nop) == 0);
  REQUIRE(u.h.send_all(a, "x"));
  for (TestOp& poll : polls) CHECK((u.h.finish(poll) & POLLIN) != 0);
}

// -- waking ---------------------------------------------------------------------------------------------------------

struct NoHost final : BackendHost {
  void post(Runnable&) noexcept override {}
  BlockingPool& pool() noexcept override { return blocking; }
  BlockingPool blocking;
};

/// Two backends on two threads pass a ball; whoever has not got it sleeps.
void play(const UringBackend::Options& options, bool name_the_waker) {
  constexpr int kPasses = 2000;
  UringBackend backends[2]{UringBackend(options), UringBackend(options)};
  NoHost host;
  std::atomic<int> ball{0};
  std::atomic<int> started{0};
  std::atomic<int> ended{0};
  std::atomic<bool> failed{false};
  const auto player = [&](int me) {
    UringBackend& mine = backends[me];
    UringBackend& other = backends[1 - me];
    if (!mine.start(host)) failed = true;
    ++started;
    while (started != 2) std::this_thread::yield();
    const Instant deadline = monotonic_now() + 60 * kSecond;
    ReadyList ready;
    while (!failed) {
      while (ball.load() % 2 != me && ball.load() < kPasses && !failed) {
        mine.wait(ready, deadline);
        if (monotonic_now() >= deadline) failed = true;
      }
      if (ball.load() >= kPasses) break;
      ++ball;
      other.wake(name_the_waker ? &mine : nullptr);
    }
    // A ring must not close while the other may still wake it.
    other.wake(nullptr);
    ++ended;
    while (ended != 2) std::this_thread::yield();
  };
  std::thread first(player, 0);
  std::thread second(player, 1);
  first.join();
  second.join();
  CHECK_FALSE(failed);
  CHECK(ball >= kPasses);
}

TEST_CASE("two rings wake each other") {
  SUBCASE("without a ring, as new kernels can") { play({}, true); }
  SUBCASE("by an entry of the waker's ring, as on old kernels") { play(old_kernel(), true); }
}

TEST_CASE("a thread without a ring wakes one") {
  SUBCASE("by a message") { play({}, false); }
  SUBCASE("by an eventfd, as on old kernels") { play(old_kernel(), false); }
}

TEST_CASE("a wake ends the current wait, or the next one, even if it came before the start or during a poll") {
  for (const UringBackend::Options& options : {UringBackend::Options(), old_kernel()}) {
    NoHost host;
    UringBackend uring(options);
    ReadyList ready;
    uring.wake(nullptr);
    REQUIRE(uring.start(host));
    const Instant deadline = monotonic_now() + 30 * kSecond;
    uring.wait(ready, deadline);
    uring.wake(nullptr);
    uring.wait(ready, deadline);
    uring.wake(nullptr);
    for (int i = 0; i < 10; ++i) uring.poll(ready);
    uring.wait(ready, deadline);
    CHECK(monotonic_now() < deadline);
    CHECK(ready.empty());
    // Each wake counts for one wait.
    const Instant before = monotonic_now();
    uring.wait(ready, before + 2 * kMillisecond);
    CHECK(monotonic_now() - before >= 2 * kMillisecond);
  }
}

TEST_CASE("a burst of wakes costs one message") {
  for (const UringBackend::Options& options : {UringBackend::Options(), old_kernel()}) {
    NoHost host;
    UringBackend uring(options);
    REQUIRE(uring.start(host));
    for (int i = 0; i < 1000; ++i) uring.wake(nullptr);
    ReadyList ready;
    const Instant before = monotonic_now();
    uring.wait(ready, before + 30 * kSecond);
    CHECK(monotonic_now() < before + 30 * kSecond);
    const Instant between = monotonic_now();
    uring.wait(ready, between + 2 * kMillisecond);
    CHECK(monotonic_now() - between >= 2 * kMillisecond);
  }
}

TEST_CASE("wakes from many threads are never lost") {
  NoHost host;
  UringBackend uring;
  REQUIRE(uring.start(host));
  constexpr int kThreads = 4;
  constexpr int kEach = 5000;
  std::atomic<int> posted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < kEach; ++k) {
        ++posted;
        uring.wake(nullptr);
      }
    });
  }
  ReadyList ready;
  const Instant deadline = monotonic_now() + 60 * kSecond;
  while (posted.load() < kThreads * kEach && monotonic_now() < deadline) uring.wait(ready, deadline);
  for (std::thread& thread : threads) thread.join();
  CHECK(monotonic_now() < deadline);
}

// -- buffers --------------------------------------------------------------------------------------------------------

TEST_CASE("buffers come into use in steps, then receives get memory from the heap, and lent ones are used again") {
  UringBackend::Options options;
  options.buffers_max = 48;
  UringHarness u(options);
  constexpr std::size_t kPairs = 60;
  std::vector<std::array<int, 2>> pairs;
  for (std::size_t i = 0; i < kPairs; ++i) pairs.push_back(u.h.pair());
  for (int round = 0; round < 3; ++round) {
    std::vector<TestOp> recvs(kPairs);
    for (std::size_t i = 0; i < kPairs; ++i) {
      set_recv(recvs[i], pairs[i][1], nullptr, 0);
      u.h.submit(recvs[i]);
    }
    u.h.linger(kMillisecond);
    const std::uint64_t before = u.uring.counters().heap_receives;
    for (std::size_t i = 0; i < kPairs; ++i) REQUIRE(u.h.send_all(pairs[i][0], "data" + std::to_string(i)));
    std::vector<Lease> leases;
    std::size_t from_heap = 0;
    for (std::size_t i = 0; i < kPairs; ++i) {
      REQUIRE(u.h.finish(recvs[i]) > 0);
      if (recvs[i].buffer == kHeapBuffer) ++from_heap;
      leases.push_back(Lease::from(recvs[i], u.uring.buffers()));
    }
    for (std::size_t i = 0; i < kPairs; ++i) {
      CHECK(std::string(leases[i].chars(), leases[i].size()) == "data" + std::to_string(i));
    }
    CHECK(u.uring.buffers().lent() == 48);
    CHECK(from_heap == kPairs - 48);
    CHECK(u.uring.counters().heap_receives - before == from_heap);
  }
}

TEST_CASE("a receive into memory from the heap gives it back when nothing comes") {
  UringBackend::Options options;
  options.buffers_max = 1;
  UringHarness u(options);
  const auto [a, b] = u.h.pair();
  const auto [c, d] = u.h.pair();
  const auto [e, f] = u.h.pair();
  TestOp holder;
  set_recv(holder, b, nullptr, 0);
  REQUIRE(u.h.send_all(a, "x"));
  REQUIRE(u.h.run(holder) == 1);
  Lease held = Lease::from(holder, u.uring.buffers());  // the only buffer

  // Tried when data is there; the end of the stream is such data.
  TestOp ended;
  set_recv(ended, d, nullptr, 3);
  u.h.submit(ended);
  u.h.close(c);
  CHECK(u.h.finish(ended) == 0);
  CHECK(ended.buffer == kNoBuffer);

  TestOp short_one;
  set_recv(short_one, f, nullptr, 3);
  REQUIRE(u.h.send_all(e, "12345"));
  CHECK(u.h.run(short_one) == 3);  // at most what was asked for
  CHECK(short_one.buffer == kHeapBuffer);
  Lease::from(short_one, u.uring.buffers());
  CHECK(u.uring.counters().heap_receives >= 1);
}

TEST_CASE("buffers given back by another thread are found when the kernel runs out") {
  UringBackend::Options options;
  options.buffers_max = 1;
  UringHarness u(options);
  const auto [a, b] = u.h.pair();
  for (int round = 0; round < 50; ++round) {
    TestOp recv;
    set_recv(recv, b, nullptr, 0);
    REQUIRE(u.h.send_all(a, "x"));
    REQUIRE(u.h.run(recv) == 1);
    REQUIRE(recv.buffer != kHeapBuffer);
    Lease lease = Lease::from(recv, u.uring.buffers());
    std::thread([&lease] { lease.reset(); }).join();
  }
  CHECK(u.uring.counters().heap_receives == 0);
}

// -- retries --------------------------------------------------------------------------------------------------------

TEST_CASE("EAGAIN is never delivered: the operation waits for readiness and is tried again") {
  UringHarness u;
  const auto [a, b] = u.h.pair();
  TestOp recv;
  char room[4];
  bool lent = false;
  SUBCASE("receive into own memory") { set_recv(recv, b, room, sizeof(room), MSG_DONTWAIT); }
  SUBCASE("receive into lent memory") {
    set_recv(recv, b, nullptr, 0, MSG_DONTWAIT);
    lent = true;
  }
  u.h.submit(recv);
  u.h.linger();
  CHECK_FALSE(recv.is_ready());
  CHECK(u.uring.counters().retries >= 1);
  REQUIRE(u.h.send_all(a, "x"));
  CHECK(u.h.finish(recv) == 1);
  if (lent) CHECK(Lease::from(recv, u.uring.buffers()).chars()[0] == 'x');

  // Cancelled while it waits for readiness.
  set_recv(recv, b, room, sizeof(room), MSG_DONTWAIT);
  u.h.submit(recv);
  u.h.linger();
  u.h.cancel(recv);
  CHECK(u.h.finish(recv) == -ECANCELED);
}

TEST_CASE("non-blocking descriptors of others wait like blocking ones") {
  UringHarness u;
  const auto [a, b] = u.h.pair();
  int pipe[2];
  REQUIRE(::pipe2(pipe, O_CLOEXEC | O_NONBLOCK) == 0);
  u.h.own(pipe[0]);
  u.h.own(pipe[1]);
  REQUIRE(::fcntl(b, F_SETFL, O_NONBLOCK) == 0);
  char rooms[2][4];
  TestOp recv;
  TestOp read;
  set_recv(recv, b, rooms[0], 4);
  set_read(read, pipe[0], rooms[1], 4);
  u.h.submit(recv);
  u.h.submit(read);
  u.h.linger();
  CHECK_FALSE(recv.is_ready());
  CHECK_FALSE(read.is_ready());
  REQUIRE(u.h.send_all(a, "x"));
  TestOp write;
  set_write(write, pipe[1], "yz");
  CHECK(u.h.run(write) == 2);
  CHECK(u.h.finish(recv) == 1);
  CHECK(u.h.finish(read) == 2);
}

TEST_CASE("a receive after one that emptied its socket waits for data, also where nothing may block") {
  UringHarness u;
  const auto [a, b] = u.h.pair();
  bool nonblocking = false;
  SUBCASE("a socket of ours") {}
  SUBCASE("a non-blocking one") { nonblocking = true; }
  if (nonblocking) REQUIRE(::fcntl(b, F_SETFL, O_NONBLOCK) == 0);
  for (int round = 0; round < 5; ++round) {
    TestOp recv;
    set_recv(recv, b, nullptr, 2);
    const std::uint64_t before = u.uring.counters().retries;
    u.h.submit(recv);
    u.h.linger();
    CHECK_FALSE(recv.is_ready());
    REQUIRE(u.h.send_all(a, "abc"));
    CHECK(u.h.finish(recv) == 2);
    CHECK(Lease::from(recv, u.uring.buffers()).size() == 2);
    // What is left is there at once.
    set_recv(recv, b, nullptr, 0);
    CHECK(u.h.run(recv) == 1);
    Lease::from(recv, u.uring.buffers());
    CHECK(u.uring.counters().retries - before <= 2);
  }
}

TEST_CASE("a connect to a Unix socket whose queue is full waits, and can be cancelled") {
  UringHarness u;
  sockaddr_storage storage{};
  auto& address = reinterpret_cast<sockaddr_un&>(storage);
  address.sun_family = AF_UNIX;
  const std::string path = u.h.path("socket");
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int listener = u.h.own(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&storage), sizeof(address)) == 0);
  REQUIRE(::listen(listener, 0) == 0);
  std::vector<TestOp> connects(4);
  for (TestOp& connect : connects) {
    const int fd = u.h.own(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    set_connect(connect, fd, storage, sizeof(address));
    u.h.submit(connect);
  }
  u.h.linger(20 * kMillisecond);
  CHECK_FALSE(connects[3].is_ready());
  u.h.cancel(connects[3]);
  CHECK(u.h.finish(connects[3]) == -ECANCELED);
  for (int i = 0; i < 3; ++i) {
    TestOp accept;
    set_accept(accept, listener);
    CHECK(u.h.own(u.h.run(accept)) >= 0);
  }
  for (int i = 0; i < 3; ++i) CHECK(u.h.finish(connects[static_cast<std::size_t>(i)]) == 0);
}

// -- FIFOs ----------------------------------------------------------------------------------------------------------

TEST_CASE("a FIFO's reader sees a writer that came and went before anybody looked, and its descriptor blocks") {
  UringHarness u;
  for (int round = 0; round < 200; ++round) {
    const std::string name = u.h.path("fifo" + std::to_string(round));
    u.h.make_fifo(name);
    TestOp open;
    set_open(open, name, O_RDONLY);
    u.h.submit(open);
    // The kernel's first try happens now. What comes next is done at different distances to the second.
    u.h.poll();
    for (int polls = round % 4; polls > 0; --polls) u.h.poll();
    const int writer = ::open(name.c_str(), O_WRONLY | O_CLOEXEC);  // does not block: the first try holds a reader
    REQUIRE(writer >= 0);
    if (round % 2 == 0) REQUIRE(::write(writer, "gone", 4) == 4);
    ::close(writer);
    const int reader = u.h.own(u.h.finish(open));
    REQUIRE(reader >= 0);
    CHECK((::fcntl(reader, F_GETFL) & O_NONBLOCK) == 0);
    char room[8];
    TestOp read;
    set_read(read, reader, room, sizeof(room));
    CHECK(u.h.run(read) == (round % 2 == 0 ? 4 : 0));
    u.h.close(reader);
  }
}

TEST_CASE("opens of FIFOs work with a submission queue of two, and are cancelled anywhere") {
  UringHarness u(small_queues(2, 8));
  for (int round = 0; round < 60; ++round) {
    const std::string name = u.h.path("fifo" + std::to_string(round));
    u.h.make_fifo(name);
    std::vector<TestOp> opens(4);
    for (std::size_t i = 0; i < opens.size(); ++i) {
      set_open(opens[i], name, O_RDONLY);
      u.h.submit(opens[i]);
    }
    for (int polls = round % 6; polls > 0; --polls) u.h.poll();
    if (round % 5 == 0) u.h.linger(kMillisecond);
    for (TestOp& open : opens) u.h.cancel(open);
    for (TestOp& open : opens) CHECK(u.h.finish(open) == -ECANCELED);
  }
}

TEST_CASE("a FIFO opened non-blocking is opened at once, and one for both ways, too") {
  UringHarness u;
  const std::string name = u.h.path("fifo");
  u.h.make_fifo(name);
  TestOp open;
  set_open(open, name, O_WRONLY | O_NONBLOCK);
  CHECK(u.h.run(open) == -ENXIO);
  set_open(open, name, O_RDONLY | O_NONBLOCK);
  CHECK(u.h.own(u.h.run(open)) >= 0);
  set_open(open, name, O_RDWR);
  CHECK(u.h.own(u.h.run(open)) >= 0);
}

// -- older kernels --------------------------------------------------------------------------------------------------

TEST_CASE("what an older kernel lacks is done another way") {
  UringHarness u(old_kernel());
  CHECK_FALSE(u.uring.features().truncate);
  const std::string path = u.h.path("file");
  u.h.make_file(path, "0123456789");
  const int fd = u.h.open(path, O_RDWR);
  for (int round = 0; round < 50; ++round) {
    TestOp truncate(OpCode::truncate, fd);
    truncate.args.truncate = {round};
    u.h.submit(truncate);
    if (round % 2 == 1) u.h.cancel(truncate);
    const std::int32_t result = u.h.finish(truncate);
    CHECK((result == 0 || (round % 2 == 1 && result == -ECANCELED)));
  }
  const Instant before = monotonic_now();
  u.h.wait(before + 3 * kMillisecond);
  CHECK(monotonic_now() - before >= 3 * kMillisecond);
}

TEST_CASE("a truncate on the pool when the backend ends is over afterwards") {
  const std::size_t descriptors = count_descriptors();
  for (int polls = 0; polls < 3; ++polls) {
    UringHarness u(old_kernel());
    const std::string path = u.h.path("file");
    u.h.make_file(path, "0123456789");
    const int fd = u.h.open(path, O_RDWR);
    std::vector<TestOp> truncates(20);
    for (TestOp& truncate : truncates) {
      truncate.code = OpCode::truncate;
      truncate.fd = fd;
      truncate.args.truncate = {5};
      u.h.submit(truncate);
    }
    for (int i = 0; i < polls; ++i) u.h.poll();
    u.h.destroy_backend();
  }
  CHECK(count_descriptors() == descriptors);
}

}  // namespace
}  // namespace evlua::test
