// Goal: the simulator is a tool one can trust: a seed decides everything, faults come where and as often as asked for
// and the invisible ones stay invisible, and broken programs are caught.
#include <signal.h>
#include <sys/wait.h>

#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "backends/sim/random.h"
#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

/// Some of everything: a connection, an exchange on it, a file written, renamed and read. Failures are passed over, as
/// a program does: what came of each operation is counted by its result.
struct Errand {
  Harness& h;
  std::map<std::int32_t, int> failures;  // errno: times
  int operations = 0;

  std::int32_t run(TestOp& op) { return finish(op, h.run(op)); }

  std::int32_t finish(TestOp&, std::int32_t result) {
    ++operations;
    if (result < 0) ++failures[-result];
    return result;
  }

  void close(int fd) {
    TestOp op(OpCode::close, fd);
    h.disown(fd);
    run(op);
  }

  void exchange() {
    sockaddr_storage address;
    socklen_t length;
    const int listener = h.listen(address, length);
    const int client = h.socket();
    TestOp connect;
    TestOp accept;
    set_connect(connect, client, address, length);
    set_accept(accept, listener);
    h.submit(connect);
    h.submit(accept);
    const bool connected = finish(connect, h.finish(connect)) == 0;
    if (!connected && accept.in_flight()) h.cancel(accept);
    const int server = h.own(finish(accept, h.finish(accept)));
    if (connected && server >= 0) echo(client, server);
    if (server >= 0) close(server);
    close(client);
    close(listener);
  }

  void echo(int client, int server) {
    const std::string request(3000, 'q');
    std::string left = request;
    TestOp op;
    char room[1000];
    std::size_t arrived = 0;
    while (!left.empty()) {
      set_send(op, client, left);
      const std::int32_t sent = run(op);
      if (sent <= 0) return;
      left.resize(left.size() - static_cast<std::size_t>(sent));
      while (arrived < request.size() - left.size()) {
        set_recv(op, server, room, sizeof(room));
        const std::int32_t got = run(op);
        if (got <= 0) return;
        arrived += static_cast<std::size_t>(got);
      }
    }
    CHECK(arrived == request.size());
    TestOp shutdown;
    set_shutdown(shutdown, client, SHUT_WR);
    if (run(shutdown) != 0) return;
    set_recv(op, server, nullptr, 0);
    CHECK(run(op) <= 0);
  }

  void files() {
    TestOp op(OpCode::mkdir, AT_FDCWD);
    const std::string directory = h.path("d");
    op.args.mkdir = {directory.c_str(), 0755};
    run(op);
    const std::string name = h.path("one");
    const std::string other = h.path("two");
    set_open(op, name, O_RDWR | O_CREAT);
    const int fd = h.own(run(op));
    if (fd < 0) return;
    set_write(op, fd, "some text", 0);
    run(op);
    op.renew();
    op.code = OpCode::fsync;
    op.args.fsync = {true};
    run(op);
    char room[16];
    set_read(op, fd, room, sizeof(room), 0);
    run(op);
    close(fd);
    op.renew();
    op.code = OpCode::rename;
    op.fd = AT_FDCWD;
    op.args.rename = {name.c_str(), other.c_str(), 0};
    run(op);
  }
};

struct Outcome {
  std::uint64_t digest = 0;
  std::uint64_t steps = 0;
  int operations = 0;
  std::map<std::int32_t, int> failures;
};

Outcome run_errand(std::uint64_t seed, const SimFaults& faults, int rounds) {
  INFO("EVLUA_TEST_SEED=", seed);
  SimWorld world(seed, faults);
  Outcome outcome;
  {
    Harness h(make_sim_backend(world), &world);
    REQUIRE(h.start());
    Errand errand{h, {}, 0};
    for (int round = 0; round < rounds; ++round) {
      errand.exchange();
      errand.files();
    }
    h.check_idle();
    outcome = {world.digest(), world.fallible_steps(), errand.operations, errand.failures};
  }
  CHECK(world.open_descriptors() == 0);
  return outcome;
}

TEST_CASE("the seed decides everything") {
  std::set<std::uint64_t> digests;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const Outcome first = run_errand(seed, SimFaults(), 2);
    const Outcome second = run_errand(seed, SimFaults(), 2);
    CHECK(first.digest == second.digest);
    digests.insert(first.digest);
  }
  CHECK(digests.size() == 100);
}

TEST_CASE("operations end in many different orders") {
  std::set<std::string> orders;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SimWorld world(seed);
    Harness h(make_sim_backend(world), &world);
    REQUIRE(h.start());
    std::vector<TestOp> ops(4);
    for (TestOp& op : ops) h.submit(op);
    std::string order;
    while (order.size() < ops.size()) {
      h.wait(kNever);
      for (std::size_t i = 0; i < ops.size(); ++i) {
        const char name = static_cast<char>('a' + i);
        if (ops[i].is_ready() && order.find(name) == std::string::npos) order += name;
      }
    }
    orders.insert(order);
  }
  CHECK(orders.size() >= 12);  // of 24; those ready in one wait count in index order
}

TEST_CASE("EINTR and EAGAIN happen, and are never seen") {
  SimFaults faults;
  faults.interrupted = 0.4;
  faults.would_block = 0.4;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const Outcome outcome = run_errand(seed, faults, 1);
    CHECK(outcome.failures.empty());
    CHECK(outcome.operations > 10);
  }
  SimWorld world(1, faults);
  Harness h(make_sim_backend(world), &world);
  REQUIRE(h.start());
  std::vector<TestOp> ops(20);
  for (TestOp& op : ops) CHECK(h.run(op) == 0);
  CHECK(world.trace().find("EINTR") != std::string::npos);
  CHECK(world.trace().find("EAGAIN") != std::string::npos);
  CHECK(world.trace().find("seed 1\n") != std::string::npos);
}

TEST_CASE("failures come about as often as asked for, and leave nothing behind") {
  SimFaults faults;
  faults.cancelled = 0.02;
  faults.no_space = 0.2;
  faults.no_descriptor = 0.2;
  faults.reset = 0.05;
  std::map<std::int32_t, int> failures;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    for (const auto& [error, times] : run_errand(seed, faults, 3).failures) failures[error] += times;
  }
  for (const int error : {ECANCELED, ENOSPC, EMFILE, ECONNRESET}) {
    INFO("errno ", error);
    CHECK(failures[error] >= 50);
  }
  CHECK(failures[EINTR] == 0);
  CHECK(failures[EAGAIN] == 0);
}

TEST_CASE("torture: each step in turn fails, and nothing is left behind") {
  const std::uint64_t steps = run_errand(7, SimFaults(), 1).steps;
  CHECK(steps > 10);
  for (std::uint64_t step = 1; step <= steps; ++step) {
    INFO("step ", step);
    SimFaults faults;
    faults.fail_at = step;
    const Outcome outcome = run_errand(7, faults, 1);
    CHECK(outcome.failures.size() >= 1);
    CHECK(outcome.steps >= step);
  }
  SimFaults beyond;
  beyond.fail_at = steps + 1;
  CHECK(run_errand(7, beyond, 1).failures.empty());
}

TEST_CASE("a lost connection is told to both sides, once, and then it is at its end") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    INFO("EVLUA_TEST_SEED=", seed);
    SimWorld world(seed);
    Harness h(make_sim_backend(world), &world);
    REQUIRE(h.start());
    const auto [a, b] = h.pair();
    char room;
    TestOp waiting;
    set_recv(waiting, a, &room, 1);
    h.submit(waiting);
    h.linger();
    world.reset(b);
    CHECK(h.finish(waiting) == -ECONNRESET);
    for (const std::int32_t expected : {-ECONNRESET, 0, 0}) {
      TestOp recv;
      set_recv(recv, b, &room, 1);
      CHECK(h.run(recv) == expected);
    }
    TestOp send;
    set_send(send, a, "x");
    CHECK(h.run(send) == -EPIPE);
  }
}

// -- time -----------------------------------------------------------------------------------------------------------

TEST_CASE("virtual time jumps to the deadline") {
  SimWorld world(1);
  Harness h(make_sim_backend(world), &world);
  REQUIRE(h.start());
  const Instant real = monotonic_now();
  const Instant deadline = h.backend().now() + 24 * 3600 * kSecond;
  h.wait(deadline);
  CHECK(h.backend().now() == deadline);
  CHECK(monotonic_now() - real < 60 * kSecond);
}

TEST_CASE("a program that only polls sees time pass") {
  SimWorld world(1);
  Harness h(make_sim_backend(world), &world);
  REQUIRE(h.start());
  const Instant begin = h.backend().now();
  h.poll();
  CHECK(h.backend().now() > begin);
}

TEST_CASE("sleepers on several threads are not woken before their time") {
  SimWorld world(1);
  std::atomic<int> early{0};
  const auto sleep_many_times = [&](Duration step, int times) {
    const std::unique_ptr<Backend> backend = make_sim_backend(world);
    ReadyList ready;
    for (int i = 0; i < times; ++i) {
      const Instant deadline = backend->now() + step;
      backend->wait(ready, deadline);
      if (backend->now() < deadline) ++early;
    }
  };
  std::thread slow([&] { sleep_many_times(100 * kSecond, 50); });
  std::thread medium([&] { sleep_many_times(7 * kSecond, 500); });
  sleep_many_times(kSecond, 2000);
  slow.join();
  medium.join();
  CHECK(early.load() == 0);
}

TEST_CASE("two backends of one world exchange bytes on one thread") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    INFO("EVLUA_TEST_SEED=", seed);
    SimWorld world(seed);
    world.make_directory("/tmp");
    const std::unique_ptr<Backend> left = make_sim_backend(world);
    const std::unique_ptr<Backend> right = make_sim_backend(world);
    const auto [a, b] = world.socket_pair();
    char room = 0;
    TestOp recv;
    TestOp send;
    set_recv(recv, b, &room, 1);
    set_send(send, a, "x");
    right->submit(recv);
    left->submit(send);
    ReadyList ready;
    const Instant deadline = world.now() + 60 * kSecond;
    while (left->in_flight() + right->in_flight() > 0 && world.now() < deadline) {
      left->wait(ready, world.now() + 50 * kMicrosecond);
      right->wait(ready, world.now() + 50 * kMicrosecond);
      while (ready.pop_front() != nullptr) continue;
    }
    CHECK(recv.res == 1);
    CHECK(send.res == 1);
    CHECK(room == 'x');
    world.close(a);
    world.close(b);
  }
}

// -- what is caught -------------------------------------------------------------------------------------------------

TEST_CASE("a wait that nothing can end is a deadlock, and is reported") {
  SimWorld world(1);
  int deadlocks = 0;
  world.expect_single_thread([&deadlocks] { ++deadlocks; });
  Harness h(make_sim_backend(world), &world);
  REQUIRE(h.start());
  const auto [a, b] = h.pair();
  char room;
  TestOp recv;
  set_recv(recv, b, &room, 1);
  h.submit(recv);
  for (int waits = 0; deadlocks == 0 && waits < 100; ++waits) h.wait(kNever);
  CHECK(deadlocks == 1);
  h.backend().wake(nullptr);
  h.wait(kNever);  // a wake that is on its way ends it
  CHECK(deadlocks == 1);
  REQUIRE(h.send_all(a, "x"));
  CHECK(h.finish(recv) == 1);
}

/// Whether `body` aborts, in a process of its own.
template <class Body>
bool aborts(Body body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDERR_FILENO);
    body();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

TEST_CASE("broken promises abort with the trace") {
  SimWorld world(1);
  const std::unique_ptr<Backend> backend = make_sim_backend(world);
  const std::array<int, 2> pair = world.socket_pair();
  char room;
  TestOp recv;
  set_recv(recv, pair[1], &room, 1);
  backend->submit(recv);
  TestOp close(OpCode::close, pair[1]);
  TestOp idle;
  ReadyList ready;
  CHECK(aborts([&] { backend->submit(recv); }));
  CHECK(aborts([&] { backend->submit(close); }));
  CHECK(aborts([&] { world.close(pair[1]); }));
  CHECK(aborts([&] { backend->cancel(idle); }));
  CHECK(aborts([&] {
    world.expect_single_thread();
    for (int waits = 0; waits < 100; ++waits) backend->wait(ready, kNever);
  }));
  CHECK_FALSE(aborts([&] { backend->cancel(recv); }));
  backend->cancel(recv);
  while (backend->in_flight() != 0) backend->wait(ready, world.now() + kSecond);
  CHECK(ready.pop_front() == &recv);
  world.close(pair[0]);
  world.close(pair[1]);
}

}  // namespace
}  // namespace evlua::test
