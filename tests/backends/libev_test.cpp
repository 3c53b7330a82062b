// Goal: what is the readiness backend's own and the contract suite cannot see: descriptor numbers that come back as
// something else, the order of what waits, polls, the process's signals, and that nothing ever spins.
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "tests/backends/libev_harness.h"

namespace evlua::test {
namespace {

// -- numbers that come back -------------------------------------------------------------------------------------------

/// Closes `fd` through `closer` and makes the same number one end of a new socket pair; returns the other end.
int replace(Harness& closer, Harness& owner, int fd) {
  closer.disown(fd);
  owner.disown(fd);
  TestOp close(OpCode::close, fd);
  REQUIRE(closer.run(close) == 0);
  const auto fresh = owner.pair();
  if (fresh[0] == fd) return fresh[1];
  REQUIRE(::dup3(fresh[0], fd, O_CLOEXEC) == fd);
  owner.own(fd);
  owner.disown(fresh[0]);
  ::close(fresh[0]);
  return fresh[1];
}

TEST_CASE("a number that is closed and comes back within one turn is watched anew") {
  Libev libev;
  Harness& h = libev.h;
  auto [fd, peer] = h.pair();
  for (int round = 0; round < 20; ++round) {
    char room;
    TestOp recv;
    set_recv(recv, fd, &room, 1);
    h.submit(recv);
    h.poll();  // the kernel watches it
    if (round % 2 == 0) {
      REQUIRE(h.send_all(peer, "x"));
      REQUIRE(h.finish(recv) == 1);
    } else {
      h.cancel(recv);
      REQUIRE(h.finish(recv) == -ECANCELED);
    }
    peer = replace(h, h, fd);
    set_recv(recv, fd, &room, 1);
    h.submit(recv);
    if (round % 3 == 0) h.linger(kMillisecond);
    REQUIRE(h.send_all(peer, "y"));
    REQUIRE(h.finish(recv) == 1);
    CHECK(room == 'y');
  }
}

TEST_CASE("a number that another worker closed is watched anew") {
  Libev one;
  Libev two;
  Harness& h = one.h;
  Harness& other = two.h;
  auto [fd, peer] = h.pair();
  for (int round = 0; round < 20; ++round) {
    char room;
    TestOp recv;
    // Waits and ends here; the watcher stays, for the next receive.
    set_recv(recv, fd, &room, 1);
    h.submit(recv);
    h.poll();
    REQUIRE(h.send_all(peer, "x"));
    REQUIRE(h.finish(recv) == 1);
    peer = replace(other, h, fd);
    set_recv(recv, fd, &room, 1);
    h.submit(recv);
    h.poll();
    CHECK_FALSE(recv.is_ready());
    REQUIRE(h.send_all(peer, "y"));
    REQUIRE(h.finish(recv) == 1);
    CHECK(room == 'y');
  }
}

TEST_CASE("a number is looked at again when it has become another kind of file") {
  Libev one;
  Libev two;
  Harness& h = one.h;
  Harness& other = two.h;
  h.make_file(h.path("file"), "from the file");
  int fd = h.own(::open(h.path("file").c_str(), O_RDONLY | O_CLOEXEC));
  for (const bool by_other : {false, true}) {
    char room[32];
    TestOp read;
    set_read(read, fd, room, sizeof(room), 0);
    REQUIRE(h.run(read) == 13);
    const int peer = replace(by_other ? other : h, h, fd);
    REQUIRE(h.send_all(peer, "from the socket"));
    set_read(read, fd, room, sizeof(room));
    REQUIRE(h.run(read) == 15);
    CHECK(std::string(room, 15) == "from the socket");
    // And back to the file.
    h.close(fd);
    const int again = ::open(h.path("file").c_str(), O_RDONLY | O_CLOEXEC);
    if (again != fd) {
      REQUIRE(::dup3(again, fd, O_CLOEXEC) == fd);
      ::close(again);
    }
    h.own(fd);
  }
}

// -- order ------------------------------------------------------------------------------------------------------------

TEST_CASE("those that wait in one direction go on in the order in which they came, cancelled ones left out") {
  Libev libev;
  Harness& h = libev.h;
  const auto [a, b] = h.pair();
  char rooms[8] = {};
  std::vector<TestOp> recvs(8);
  for (std::size_t i = 0; i < recvs.size(); ++i) {
    set_recv(recvs[i], b, &rooms[i], 1);
    h.submit(recvs[i]);
  }
  h.linger(kMillisecond);
  for (const std::size_t i : {0U, 3U, 7U}) h.cancel(recvs[i]);
  for (const char* byte : {"a", "b", "c", "d", "e"}) REQUIRE(h.send_all(a, byte));
  for (TestOp& recv : recvs) h.finish(recv);
  CHECK(std::string(rooms, 8) == std::string("\0ab\0cde\0", 8));
  for (const std::size_t i : {0U, 3U, 7U}) CHECK(recvs[i].res == -ECANCELED);
}

TEST_CASE("reads and writes at the file's own position keep their order, on any number of threads") {
  Libev libev;
  Harness& h = libev.h;
  const int fd = h.own(::open(h.path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  std::string text;
  for (int i = 0; i < 200; ++i) text += std::to_string(1000 + i);
  std::vector<TestOp> ops(200);
  for (std::size_t i = 0; i < ops.size(); ++i) {
    set_write(ops[i], fd, std::string_view(text).substr(4 * i, 4));
    h.submit(ops[i]);
  }
  for (TestOp& op : ops) REQUIRE(h.finish(op) == 4);
  REQUIRE(::lseek(fd, 0, SEEK_SET) == 0);
  std::string got(text.size(), '\0');
  for (std::size_t i = 0; i < ops.size(); ++i) {
    set_read(ops[i], fd, got.data() + 4 * i, 4);
    h.submit(ops[i]);
  }
  h.cancel(ops[100]);  // perhaps too late
  for (TestOp& op : ops) CHECK((h.finish(op) == 4 || &op == &ops[100]));
  if (ops[100].res == 4) CHECK(got == text);
  CHECK(got.substr(0, 400) == text.substr(0, 400));
}

// -- polls ------------------------------------------------------------------------------------------------------------

TEST_CASE("a poll for both directions ends with either, beside operations that wait too") {
  Libev libev;
  Harness& h = libev.h;
  const auto [a, b] = h.pair();
  const std::string block(1 << 20, 'x');
  TestOp full;
  do {
    set_send(full, a, block);
    h.submit(full);
  } while (h.run_until([&full] { return full.is_ready(); }, 10 * kMillisecond));
  char room[4];
  TestOp recv;
  std::array<TestOp, 3> polls;
  set_recv(recv, a, room, sizeof(room));
  set_poll(polls[0], a, POLLIN | POLLOUT);
  set_poll(polls[1], a, POLLIN);
  set_poll(polls[2], a, POLLOUT);
  h.submit(recv);
  for (TestOp& poll : polls) h.submit(poll);
  CHECK(wakeups_during(h, 10 * kMillisecond) < 20);
  REQUIRE(h.send_all(b, "data"));
  CHECK((h.finish(polls[0]) & POLLIN) != 0);
  CHECK((h.finish(polls[1]) & POLLIN) != 0);  // the receive did not take it before
  CHECK(h.finish(recv) == 4);
  CHECK_FALSE(polls[2].is_ready());
  set_poll(polls[0], a, POLLIN | POLLOUT);
  h.submit(polls[0]);
  std::vector<char> sink(1 << 20);
  TestOp drain;
  while (!polls[2].is_ready()) {
    set_recv(drain, b, sink.data(), sink.size());
    REQUIRE(h.run(drain) > 0);
  }
  CHECK((polls[2].res & POLLOUT) != 0);
  CHECK((h.finish(polls[0]) & POLLOUT) != 0);
  CHECK(h.finish(full) > 0);
}

TEST_CASE("a poll that data in the socket does not end is no reason to spin") {
  Libev libev;
  Harness& h = libev.h;
  const auto [a, b] = h.pair();
  REQUIRE(h.send_all(a, "data"));  // readable, which this poll does not ask for
  TestOp poll;
  set_poll(poll, b, POLLRDHUP);
  h.submit(poll);
  CHECK(wakeups_during(h, 60 * kMillisecond) < 120);
  CHECK_FALSE(poll.is_ready());
  h.close(a);
  CHECK((h.finish(poll) & POLLRDHUP) != 0);
  TestOp urgent;
  const auto [c, d] = h.pair(Family::tcp);
  set_poll(urgent, c, POLLPRI);
  CHECK(h.run(urgent) == -EINVAL);  // libev cannot tell; better said than waited for
}

// -- no spinning ------------------------------------------------------------------------------------------------------

TEST_CASE("data and an end that nobody asks for wake the worker a few times, not for ever") {
  Libev libev;
  Harness& h = libev.h;
  const auto [a, b] = h.pair();
  char room[4];
  TestOp recv;
  set_recv(recv, b, room, 1);
  h.submit(recv);
  h.poll();
  REQUIRE(h.send_all(a, "many bytes"));
  CHECK(h.finish(recv) == 1);  // b stays watched, and there is more
  CHECK(wakeups_during(h, 20 * kMillisecond) < 40);
  h.close(a);
  CHECK(wakeups_during(h, 20 * kMillisecond) < 40);
  CHECK(h.receive(b, 20) == "any bytes");
}

TEST_CASE("connecting to a Unix listener with a full queue waits for room, without spinning") {
  Libev libev;
  Harness& h = libev.h;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = h.path("socket");
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const int listener = h.own(::socket(AF_UNIX, kType, 0));
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(::listen(listener, 0) == 0);
  std::vector<TestOp> connects(6);
  for (TestOp& connect : connects) {
    connect.code = OpCode::connect;
    connect.fd = h.own(::socket(AF_UNIX, kType, 0));
    connect.args.connect = {reinterpret_cast<sockaddr*>(&address), sizeof(address)};
    h.submit(connect);
  }
  // A rest is 2 ms at least, so the number of wake-ups is bounded by the time that passes, however slow the machine.
  const Instant begin = h.backend().now();
  const int wakeups = wakeups_during(h, 60 * kMillisecond);
  CHECK(wakeups < 80 + (h.backend().now() - begin) / kMillisecond);
  CHECK_FALSE(connects.back().is_ready());
  h.cancel(connects.back());
  CHECK(h.finish(connects.back()) == -ECANCELED);
  for (std::size_t i = 0; i + 1 < connects.size(); ++i) {
    TestOp accept;
    set_accept(accept, listener);
    CHECK(h.own(h.run(accept)) >= 0);
  }
  for (std::size_t i = 0; i + 1 < connects.size(); ++i) CHECK(h.finish(connects[i]) == 0);
}

TEST_CASE("a refused connect fails although a receive on the same socket took the error") {
  Libev libev;
  Harness& h = libev.h;
  sockaddr_storage address;
  socklen_t length;
  const int listener = h.listen(address, length);
  h.close(listener);
  for (int round = 0; round < 20; ++round) {
    const int client = h.socket();
    char room;
    TestOp recv;
    TestOp connect;
    set_connect(connect, client, address, length);
    set_recv(recv, client, &room, 1);
    h.submit(connect);
    h.submit(recv);
    const std::int32_t received = h.finish(recv);
    CHECK((received == -ECONNREFUSED || received == -ENOTCONN || received == 0));
    connect.res = h.finish(connect);
    CHECK((connect.res == -ECONNREFUSED || connect.res == -ECONNABORTED));
    h.close(client);
  }
}

// -- the process ------------------------------------------------------------------------------------------------------

TEST_CASE("the process's signals stay its own") {
  const auto handlers = [] {
    std::vector<void (*)(int)> all;
    for (int signal = 1; signal < SIGRTMIN; ++signal) {
      struct sigaction action {};
      ::sigaction(signal, nullptr, &action);
      all.push_back(action.sa_handler);
    }
    return all;
  };
  const auto before = handlers();
  sigset_t blocked_before;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked_before);
  Libev libev;
  Harness& h = libev.h;
  const auto [a, b] = h.pair();
  REQUIRE(h.send_all(a, "x"));
  CHECK(h.receive(b, 1) == "x");
  h.linger(3 * kMillisecond);
  h.make_file(h.path("file"), "x");
  h.close(h.open(h.path("file"), O_RDONLY));
  CHECK(handlers() == before);
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  for (int signal = 1; signal < SIGRTMIN; ++signal) {
    CHECK(sigismember(&blocked, signal) == sigismember(&blocked_before, signal));
  }
}

TEST_CASE("without descriptors it does not start, and says why") {
  { const Libev once; }  // a sanitizer needs descriptors itself when it checks something for the first time
  rlimit limit;
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  int started = 0;
  for (int left = 0; left < 5; ++left) {
    Harness h(make_libev_backend(), nullptr);
    std::array<int, 5> next{};
    for (int& fd : next) fd = ::fcntl(0, F_DUPFD_CLOEXEC, 0);
    for (const int fd : next) ::close(fd);
    rlimit tight = limit;
    tight.rlim_cur = static_cast<rlim_t>(next.at(static_cast<std::size_t>(left)));
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    const Result<void> outcome = h.start();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CAPTURE(left);
    if (!outcome) CHECK(outcome.error().is(EMFILE));
    if (outcome) ++started;
  }
  CHECK(started > 0);
  CHECK(started < 4);
}

TEST_CASE("the descriptor of the largest number works as any other") {
  rlimit limit;
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  Libev libev;
  Harness& h = libev.h;
  const auto [a, b] = h.pair();
  const int largest = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20)) - 1;
  const int fd = h.own(::fcntl(b, F_DUPFD_CLOEXEC, largest));
  REQUIRE(fd == largest);
  char room;
  TestOp recv;
  set_recv(recv, fd, &room, 1);
  h.submit(recv);
  h.linger(kMillisecond);
  REQUIRE(h.send_all(a, "x"));
  CHECK(h.finish(recv) == 1);
}

}  // namespace
}  // namespace evlua::test
