// Goal: a file that does not answer delays nobody. On io_uring and on libev, with one worker and with two.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/blocking.h"
#include "core/scope.h"
#include "fs/file.h"
#include "fs/path_ops.h"
#include "tests/support/async.h"

namespace evlua::test {

namespace {

constexpr int kTicks = 20;
constexpr fs::OpenMode kReading{O_RDONLY, false};

/// A directory of its own, with an ordinary file and FIFOs that nobody writes.
class Place {
 public:
  explicit Place(int fifos) : fifos_(fifos) {
    char name[] = "/tmp/evlua-async-XXXXXX";
    path_ = ::mkdtemp(name);
    for (int i = 0; i < fifos; ++i) CHECK(::mkfifo(fifo(i).c_str(), 0600) == 0);
    std::FILE* file = std::fopen(ordinary().c_str(), "w");
    std::fputs("content", file);
    std::fclose(file);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    for (int i = 0; i < fifos_; ++i) ::unlink(fifo(i).c_str());
    ::unlink(ordinary().c_str());
    ::rmdir(path_.c_str());
  }

  std::string fifo(int number) const { return path_ + "/fifo" + std::to_string(number); }
  std::string ordinary() const { return path_ + "/file"; }

 private:
  std::string path_;
  int fifos_;
};

/// Timers, and reads, opens and stats of an ordinary file: all of them must go on. Says how many rounds did.
Task<void> ordinary_life(const Place& place, int& rounds) {
  for (int i = 0; i < kTicks; ++i) {
    co_await linger(kMillisecond);
    const Result<std::string> content = co_await fs::read_file(place.ordinary(), 100, patience());
    CHECK(content);
    if (!content || *content != "content") co_return;
    const Result<fs::FileInfo> info = co_await fs::stat(place.ordinary(), true, patience());
    CHECK(info);
    ++rounds;
  }
}

struct Hanging {
  std::string path;
  bool ended = false;
  Error error;
};

Task<void> open_and_hang(Hanging& out, Instant deadline) {
  std::string path = out.path;
  const Result<fs::File> file = co_await fs::File::open(std::move(path), kReading, 0, deadline);
  out.ended = true;
  if (!file) out.error = file.error();
}

Task<void> others_run_while_opens_hang(Env& env, int count) {
  const Place place(count);
  std::vector<Hanging> hanging(static_cast<std::size_t>(count));
  TaskScope stuck(env.home);
  for (int i = 0; i < count; ++i) {
    Hanging& one = hanging[static_cast<std::size_t>(i)];
    one.path = place.fifo(i);
    stuck.spawn(open_and_hang(one, kNever));
  }
  int rounds = 0;
  co_await ordinary_life(place, rounds);
  CHECK(rounds == kTicks);
  for (const Hanging& one : hanging) CHECK_FALSE(one.ended);
  stuck.cancel();
  co_await stuck.join();
  for (const Hanging& one : hanging) {
    CHECK(one.ended);
    CHECK(one.error.is(ECANCELED));
  }
}

Task<void> one_hanging_open(Env& env) { co_await others_run_while_opens_hang(env, 1); }
Task<void> many_hanging_opens(Env& env) { co_await others_run_while_opens_hang(env, 64); }

Task<void> hanging_opens_obey_deadlines(Env& env) {
  const Place place(16);
  std::vector<Hanging> hanging(16);
  TaskScope stuck(env.home);
  for (int i = 0; i < 16; ++i) {
    Hanging& one = hanging[static_cast<std::size_t>(i)];
    one.path = place.fifo(i);
    stuck.spawn(open_and_hang(one, soon()));
  }
  co_await stuck.join();
  for (const Hanging& one : hanging) CHECK(one.error.is(ETIMEDOUT));
}

struct PipeRead {
  int fd = -1;
  char byte = 0;
  std::size_t got = 99;
  bool ended = false;
};

Task<void> read_one(PipeRead& out) {
  // The descriptor stays the test's.
  fs::File file(::dup(out.fd), false);
  const Result<std::size_t> got = co_await file.read_at(&out.byte, 1, -1, patience());
  out.ended = true;
  if (got) out.got = *got;
}

/// A pipe that blocks, and whose writer says nothing for a while.
Task<void> others_run_while_reads_hang(Env& env) {
  const Place place(0);
  constexpr std::size_t kPipes = 32;
  std::vector<PipeRead> reads(kPipes);
  std::vector<int> writers;
  TaskScope stuck(env.home);
  for (PipeRead& read : reads) {
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    read.fd = ends[0];
    writers.push_back(ends[1]);
    stuck.spawn(read_one(read));
  }
  int rounds = 0;
  co_await ordinary_life(place, rounds);
  CHECK(rounds == kTicks);
  for (const PipeRead& read : reads) CHECK_FALSE(read.ended);
  for (const int writer : writers) {
    CHECK(::write(writer, "x", 1) == 1);
    ::close(writer);
  }
  co_await stuck.join();
  for (const PipeRead& read : reads) {
    CHECK(read.got == 1);
    CHECK(read.byte == 'x');
    ::close(read.fd);
  }
}

/// Keeps threads of the pool busy until told otherwise.
Task<void> occupy(std::atomic<bool>& leave, std::atomic<int>& inside) {
  auto call = blocking(
      Worker::current().pool(),
      [&] {
        ++inside;
        while (!leave.load()) std::this_thread::yield();
        return 0;
      },
      PoolJob::Class::slow);
  (void)co_await call;
}

Task<void> others_run_while_the_pool_is_busy(Env& env) {
  const Place place(0);
  std::atomic<bool> leave{false};
  std::atomic<int> inside{0};
  TaskScope busy(env.home);
  for (int i = 0; i < 8; ++i) busy.spawn(occupy(leave, inside));
  const bool begun = co_await comes_true([&] { return inside.load() > 0; });
  CHECK(begun);
  int rounds = 0;
  co_await ordinary_life(place, rounds);
  CHECK(rounds == kTicks);
  leave = true;
  co_await busy.join();
}

Task<void> a_writer_ends_the_wait(Env& env) {
  const Place place(1);
  Hanging one;
  one.path = place.fifo(0);
  TaskScope stuck(env.home);
  stuck.spawn(open_and_hang(one, patience()));
  co_await linger();
  CHECK_FALSE(one.ended);
  std::string path = place.fifo(0);
  const fs::OpenMode writing{O_WRONLY, false};
  Result<fs::File> writer = co_await fs::File::open(std::move(path), writing, 0, patience());
  CHECK(writer);
  co_await stuck.join();
  CHECK(one.error.code == 0);
  if (writer) (void)co_await writer->close();
}

}  // namespace

TEST_CASE("while an open of a FIFO waits for its writer, everything else runs") { on_backends(one_hanging_open); }
TEST_CASE("also while 64 of them wait; all of them can be cancelled") { on_backends(many_hanging_opens); }
TEST_CASE("opens that hang end at their deadline") { on_backends(hanging_opens_obey_deadlines); }
TEST_CASE("while reads of silent pipes wait, everything else runs") { on_backends(others_run_while_reads_hang); }
TEST_CASE("while slow jobs fill the blocking pool, files are served") {
  on_backends(others_run_while_the_pool_is_busy);
}
TEST_CASE("a writer that comes ends the wait of a FIFO's reader") { on_backends(a_writer_ends_the_wait); }

}  // namespace evlua::test
