// Goal: with readiness only, no descriptor blocks the worker: pipes, terminals and sockets in the mode in which
// programs inherit them, devices, and files, which are for the blocking pool.
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "tests/backends/libev_harness.h"

namespace evlua::test {
namespace {

/// Pipes, terminals and sockets in the mode in which programs inherit them.
std::array<int, 2> blocking_pipe(Harness& h) {
  std::array<int, 2> fds{};
  REQUIRE(::pipe2(fds.data(), O_CLOEXEC) == 0);
  for (const int fd : fds) h.own(fd);
  return fds;
}

std::array<int, 2> blocking_fifo(Harness& h) {
  const std::string path = h.path("fifo");
  h.make_fifo(path);
  const int both = ::open(path.c_str(), O_RDWR | O_CLOEXEC);  // so that neither open below waits
  const std::array<int, 2> fds{h.own(::open(path.c_str(), O_RDONLY | O_CLOEXEC)),
                               h.own(::open(path.c_str(), O_WRONLY | O_CLOEXEC))};
  ::close(both);
  return fds;
}

std::array<int, 2> blocking_socket_pair(Harness& h) {
  std::array<int, 2> fds{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  for (const int fd : fds) h.own(fd);
  return fds;
}

using MakePipe = std::array<int, 2> (*)(Harness&);
constexpr MakePipe kPipes[] = {blocking_pipe, blocking_fifo, blocking_socket_pair};

// -- descriptors that would block -------------------------------------------------------------------------------------

TEST_CASE("a write to a blocking pipe that is full holds up nobody, and all of it arrives") {
  for (const MakePipe make : kPipes) {
    Libev libev;
    Harness& h = libev.h;
    const auto [in, out] = make(h);
    std::string text(1 << 20, '\0');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 65'536);
    const auto [a, b] = h.pair();
    std::size_t written = 0;
    std::string got;
    TestOp write;
    set_write(write, out, text);
    h.submit(write);
    while (got.size() < text.size()) {
      // Another connection goes on, whatever the pipe does.
      REQUIRE(h.send_all(a, "x"));
      REQUIRE(h.receive(b, 1) == "x");
      if (write.is_ready() && written < text.size()) {
        REQUIRE(write.res > 0);
        written += static_cast<std::size_t>(write.res);
        write.renew();
        if (written < text.size()) {
          set_write(write, out, std::string_view(text).substr(written));
          h.submit(write);
        }
      }
      char room[40'000];
      TestOp read;
      set_read(read, in, room, sizeof(room));
      const std::int32_t count = h.run(read);
      REQUIRE(count > 0);
      got.append(room, static_cast<std::size_t>(count));
    }
    if (write.in_flight()) h.finish(write);
    CHECK(got == text);
    // Their modes are as they were: they are shared with other processes.
    CHECK((::fcntl(in, F_GETFL) & O_NONBLOCK) == 0);
    CHECK((::fcntl(out, F_GETFL) & O_NONBLOCK) == 0);
  }
}

TEST_CASE("a read from a blocking pipe waits without a thread's help, and can be cancelled") {
  for (const MakePipe make : kPipes) {
    Libev libev;
    Harness& h = libev.h;
    const auto [in, out] = make(h);
    char room[8];
    TestOp read;
    set_read(read, in, room, sizeof(room));
    h.submit(read);
    CHECK(wakeups_during(h, 20 * kMillisecond) < 20);
    CHECK(h.pool().threads() == 0);
    CHECK_FALSE(read.is_ready());
    h.cancel(read);
    CHECK(h.finish(read) == -ECANCELED);
    set_read(read, in, room, sizeof(room));
    h.submit(read);
    TestOp write;
    set_write(write, out, "data");
    CHECK(h.run(write) == 4);
    CHECK(h.finish(read) == 4);
    h.close(out);
    set_read(read, in, room, sizeof(room));
    CHECK(h.run(read) == 0);
  }
}

TEST_CASE("a write that a full pipe stops can be cancelled, and what it has written is told") {
  for (const MakePipe make : kPipes) {
    Libev libev;
    Harness& h = libev.h;
    const auto [in, out] = make(h);
    const std::string text(1 << 20, 'x');
    std::size_t written = 0;
    TestOp write;
    do {
      set_write(write, out, text);
      h.submit(write);
      if (!h.run_until([&write] { return write.is_ready(); }, 20 * kMillisecond)) h.cancel(write);
      h.finish(write);
      if (write.res > 0) written += static_cast<std::size_t>(write.res);
    } while (write.res > 0);
    CHECK(write.res == -ECANCELED);
    CHECK(written > 0);
    h.close(out);
    std::size_t got = 0;
    std::vector<char> room(65'536);
    TestOp read;
    do {
      set_read(read, in, room.data(), room.size());
      h.run(read);
      REQUIRE(read.res >= 0);
      got += static_cast<std::size_t>(read.res);
    } while (read.res > 0);
    CHECK(got == written);
  }
}

TEST_CASE("writing where nobody reads is EPIPE") {
  const auto previous = ::signal(SIGPIPE, SIG_IGN);  // as the programs do: a pipe has no flag against the signal
  for (const MakePipe make : kPipes) {
    Libev libev;
    Harness& h = libev.h;
    const auto [in, out] = make(h);
    h.close(in);
    TestOp write;
    set_write(write, out, "anybody there?");
    CHECK(h.run(write) == -EPIPE);
  }
  ::signal(SIGPIPE, previous);
}

TEST_CASE("a terminal that takes nothing more holds up nobody") {
  Libev libev;
  Harness& h = libev.h;
  int master = -1;
  int terminal = -1;
  REQUIRE(::openpty(&master, &terminal, nullptr, nullptr, nullptr) == 0);
  h.own(master);
  h.own(terminal);
  const std::string text(200'000, 'x');
  TestOp write;
  set_write(write, terminal, text);
  h.submit(write);
  h.linger(20 * kMillisecond);
  const auto [a, b] = h.pair();
  REQUIRE(h.send_all(a, "x"));
  CHECK(h.receive(b, 1) == "x");
  if (!write.is_ready()) h.cancel(write);
  const std::int32_t written = h.finish(write);
  CHECK((written > 0 || written == -ECANCELED));

  char line[64];
  TestOp read;
  set_read(read, terminal, line, sizeof(line));
  h.submit(read);
  CHECK(wakeups_during(h, 20 * kMillisecond) < 40);
  CHECK_FALSE(read.is_ready());
  TestOp type;
  set_write(type, master, "typed\n");
  CHECK(h.run(type) == 6);
  REQUIRE(h.finish(read) == 6);
  CHECK(std::string(line, 6) == "typed\n");
}

TEST_CASE("accept and connect do not block on sockets made without SOCK_NONBLOCK") {
  Libev libev;
  Harness& h = libev.h;
  sockaddr_in address{};
  socklen_t length = sizeof(address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = h.own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(::listen(listener, 8) == 0);
  REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  TestOp accept;
  set_accept(accept, listener);
  h.submit(accept);
  CHECK(wakeups_during(h, 10 * kMillisecond) < 20);
  CHECK_FALSE(accept.is_ready());
  const int client = h.own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TestOp connect(OpCode::connect, client);
  connect.args.connect = {reinterpret_cast<sockaddr*>(&address), length};
  CHECK(h.run(connect) == 0);
  const int server = h.own(h.finish(accept));
  REQUIRE(server >= 0);
  REQUIRE(h.send_all(client, "x"));
  CHECK(h.receive(server, 1) == "x");
}

TEST_CASE("devices without readiness are always ready") {
  Libev libev;
  Harness& h = libev.h;
  const int null = h.own(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const int zero = h.own(::open("/dev/zero", O_RDWR | O_CLOEXEC));
  char room[16] = {'x'};
  TestOp op;
  set_read(op, null, room, sizeof(room));
  CHECK(h.run(op) == 0);
  set_write(op, null, "gone");
  CHECK(h.run(op) == 4);
  set_read(op, zero, room, sizeof(room));
  CHECK(h.run(op) == 16);
  CHECK(room[0] == '\0');
  h.make_file(h.path("file"), "contents");
  for (const int fd : {null, zero, h.own(::open(h.path("file").c_str(), O_RDWR | O_CLOEXEC))}) {
    set_poll(op, fd, POLLIN | POLLOUT);
    CHECK(h.run(op) == (POLLIN | POLLOUT));
    h.close(fd);
  }
}

// -- files and the pool -----------------------------------------------------------------------------------------------

TEST_CASE("files are read and written while opens hang on as many threads as they may have") {
  Libev libev;
  Harness& h = libev.h;
  const std::string fifo = h.path("fifo");
  h.make_fifo(fifo);
  std::vector<TestOp> opens(100);  // more than may hang: the rest is queued
  for (TestOp& open : opens) {
    set_open(open, fifo, O_RDONLY);
    h.submit(open);
  }
  const int fd = h.own(::open(h.path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  for (int round = 0; round < 20; ++round) {
    TestOp op;
    set_write(op, fd, "contents", 8 * round);
    REQUIRE(h.run(op) == 8);
    op.renew();
    op.code = OpCode::fsync;
    op.args.fsync = {true};
    REQUIRE(h.run(op) == 0);
    char room[8];
    set_read(op, fd, room, sizeof(room), 8 * round);
    REQUIRE(h.run(op) == 8);
    CHECK(std::string(room, 8) == "contents");
  }
  for (TestOp& open : opens) {
    CHECK_FALSE(open.is_ready());
    h.cancel(open);
  }
  for (TestOp& open : opens) CHECK(h.finish(open) == -ECANCELED);
  CHECK(h.pool().queued() == 0);
}

TEST_CASE("a read that the page cache can answer needs no thread") {
  Libev libev;
  Harness& h = libev.h;
  h.make_file(h.path("file"), std::string(65'536, 'x'));
  const int fd = h.own(::open(h.path("file").c_str(), O_RDONLY | O_CLOEXEC));
  char room[4096];
  iovec part{room, sizeof(room)};
  if (::preadv2(fd, &part, 1, 0, RWF_NOWAIT) != 4096) {
    MESSAGE("SKIPPED: the file system of the temporary directory has no RWF_NOWAIT");
    return;
  }
  for (int i = 0; i < 16; ++i) {
    TestOp read;
    set_read(read, fd, room, sizeof(room), i % 2 == 0 ? i * 4096 : -1);
    REQUIRE(h.run(read) == 4096);
  }
  CHECK(h.pool().threads() == 0);
}

TEST_CASE("the close of a file cannot be cancelled") {
  Libev libev;
  Harness& h = libev.h;
  for (int round = 0; round < 50; ++round) {
    h.make_file(h.path("file"), "contents");
    const int fd = ::open(h.path("file").c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    TestOp close(OpCode::close, fd);
    h.submit(close);
    h.cancel(close);
    CHECK(h.finish(close) == 0);
    CHECK(::fcntl(fd, F_GETFD) == -1);
  }
}

}  // namespace
}  // namespace evlua::test
