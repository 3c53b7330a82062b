// Goal: every job runs once, or is taken back and never runs; threads come on demand, keep to their limits and go; a
// hanging call can be interrupted; and the pool ends whatever its threads are at.
#include "core/blocking_pool.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "tests/support/doctest.h"

namespace evlua {
namespace {

/// True as soon as `predicate` holds; false when that takes absurdly long.
template <class Predicate>
bool eventually(Predicate predicate) {
  const Instant deadline = monotonic_now() + 30 * kSecond;
  while (!predicate()) {
    if (monotonic_now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

struct CountingJob : PoolJob {
  explicit CountingJob(Class kind = Class::quick) {
    job_class = kind;
    run = [](Runnable& self) noexcept {
      auto& job = static_cast<CountingJob&>(self);
      job.thread = std::this_thread::get_id();
      job.runs.fetch_add(1);
    };
  }
  std::thread::id thread;
  std::atomic<int> runs{0};
};

/// Holds whoever waits at it until it is opened.
class Gate {
 public:
  void open() {
    const std::lock_guard guard(lock_);
    open_ = true;
    opened_.notify_all();
  }
  void wait() {
    std::unique_lock guard(lock_);
    opened_.wait(guard, [this] { return open_; });
  }

 private:
  std::mutex lock_;
  std::condition_variable opened_;
  bool open_ = false;
};

/// Occupies a thread until its gate opens.
struct GateJob : PoolJob {
  explicit GateJob(Gate& g, Class kind = Class::quick) : gate(g) {
    job_class = kind;
    run = [](Runnable& self) noexcept {
      auto& job = static_cast<GateJob&>(self);
      job.begun.store(true);
      job.gate.wait();
      job.ended.store(true);
    };
  }
  Gate& gate;
  std::atomic<bool> begun{false};
  std::atomic<bool> ended{false};
};

/// Reads a byte from a pipe that has none.
struct PipeJob : PoolJob {
  explicit PipeJob(bool is_stubborn = false) : stubborn(is_stubborn) {
    REQUIRE(::pipe(fds.data()) == 0);
    run = [](Runnable& self) noexcept {
      auto& job = static_cast<PipeJob&>(self);
      job.begun.store(true);
      char byte;
      ssize_t got;
      do got = ::read(job.fds[0], &byte, 1);
      while (got < 0 && errno == EINTR && job.stubborn);
      job.error.store(got < 0 ? errno : 0);
      job.ended.store(true);
    };
  }
  ~PipeJob() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  const bool stubborn;
  std::array<int, 2> fds{};
  std::atomic<int> error{-1};
  std::atomic<bool> begun{false};
  std::atomic<bool> ended{false};
};

#if !EVLUA_ASAN && !EVLUA_TSAN
// First in this file: once a thread has ended, its stack would do for another.
TEST_CASE("when the system gives no thread at all, the caller carries the job out") {
  BlockingPool pool;
  CountingJob job;
  rlimit limit;
  REQUIRE(::getrlimit(RLIMIT_AS, &limit) == 0);
  const rlimit nothing{1, limit.rlim_max};  // a thread needs a mapping for its stack
  REQUIRE(::setrlimit(RLIMIT_AS, &nothing) == 0);
  pool.submit(job);
  REQUIRE(::setrlimit(RLIMIT_AS, &limit) == 0);
  CHECK(job.runs.load() == 1);
  CHECK(job.thread == std::this_thread::get_id());
  CHECK(pool.threads() == 0);
  CHECK(pool.queued() == 0);
}
#endif

TEST_CASE("jobs from several threads all run, once each and elsewhere") {
  BlockingPool pool({.threads_max = 4});
  constexpr int kThreads = 3;
  constexpr int kJobs = 2000;
  std::vector<std::unique_ptr<CountingJob>> jobs;
  for (int i = 0; i < kThreads * kJobs; ++i) {
    jobs.push_back(std::make_unique<CountingJob>(i % 3 == 0 ? PoolJob::Class::slow : PoolJob::Class::quick));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kJobs; ++i) pool.submit(*jobs[static_cast<std::size_t>(t * kJobs + i)]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& job : jobs) REQUIRE(eventually([&] { return job->runs.load() != 0; }));
  CHECK(pool.threads() <= 4);
  CHECK(pool.queued() == 0);
  for (const auto& job : jobs) REQUIRE(job->runs.load() == 1);
}

TEST_CASE("threads come on demand, up to the limit; the rest is queued") {
  Gate gate;
  std::vector<std::unique_ptr<GateJob>> jobs;
  BlockingPool pool({.threads_max = 3});
  CHECK(pool.threads() == 0);
  for (std::size_t i = 0; i < 5; ++i) {
    jobs.push_back(std::make_unique<GateJob>(gate));
    pool.submit(*jobs.back());
    CHECK(pool.threads() == std::min<std::size_t>(i + 1, 3));
  }
  REQUIRE(eventually([&] { return pool.queued() == 2; }));
  gate.open();
  for (const auto& job : jobs) REQUIRE(eventually([&] { return job->ended.load(); }));
}

TEST_CASE("an idle thread is used before another is started") {
  BlockingPool pool({.threads_max = 1000});
  for (int i = 0; i < 1000; ++i) {
    CountingJob job;
    pool.submit(job);
    REQUIRE(eventually([&] { return job.runs.load() == 1; }));
  }
  // Not one: a job has ended a moment before its thread is idle again.
  CHECK(pool.threads() < 500);
}

TEST_CASE("slow jobs hold at most half of the threads") {
  Gate gate;
  std::vector<std::unique_ptr<GateJob>> slow;
  BlockingPool pool({.threads_max = 4});
  for (int i = 0; i < 5; ++i) {
    slow.push_back(std::make_unique<GateJob>(gate, PoolJob::Class::slow));
    pool.submit(*slow.back());
  }
  REQUIRE(eventually([&] { return pool.queued() == 3; }));
  // Each quick job must find a thread, idle or new, although slow ones are queued before it.
  for (int i = 0; i < 50; ++i) {
    CountingJob quick;
    pool.submit(quick);
    REQUIRE(eventually([&] { return quick.runs.load() == 1; }));
  }
  CHECK(pool.queued() == 3);
  int begun = 0;
  for (const auto& job : slow) begun += job->begun.load() ? 1 : 0;
  CHECK(begun == 2);
  gate.open();
  for (const auto& job : slow) REQUIRE(eventually([&] { return job->ended.load(); }));
}

TEST_CASE("a quick job wakes the idle thread when all threads there may be exist") {
  Gate gate;
  GateJob slow(gate, PoolJob::Class::slow);
  GateJob another(gate, PoolJob::Class::slow);
  BlockingPool pool({.threads_max = 2});
  pool.submit(slow);
  pool.submit(another);  // must wait for the first
  for (int i = 0; i < 200; ++i) {
    CountingJob quick;
    pool.submit(quick);
    const Instant asked = monotonic_now();
    REQUIRE(eventually([&] { return quick.runs.load() == 1; }));
    CHECK(monotonic_now() - asked < 9 * kSecond);  // not only when the idle thread gives up
  }
  CHECK_FALSE(another.begun.load());
  gate.open();
  REQUIRE(eventually([&] { return another.ended.load(); }));
}

TEST_CASE("quick jobs do not starve a slow one") {
  Gate gate;
  GateJob first(gate);
  static std::atomic<int> order;
  order.store(0);
  struct OrderedJob : PoolJob {
    OrderedJob() {
      run = [](Runnable& self) noexcept {
        auto& job = static_cast<OrderedJob&>(self);
        job.place.store(order.fetch_add(1) + 1);
      };
    }
    std::atomic<int> place{0};
  };
  std::vector<OrderedJob> quick(20);
  OrderedJob slow;
  slow.job_class = PoolJob::Class::slow;
  BlockingPool pool({.threads_max = 1});
  pool.submit(first);
  for (OrderedJob& job : quick) pool.submit(job);
  pool.submit(slow);
  gate.open();
  REQUIRE(eventually([&] { return quick.back().place.load() != 0 && slow.place.load() != 0; }));
  CHECK(slow.place.load() <= 2);
}

TEST_CASE("a queued job can be taken back and never runs; one that runs cannot") {
  Gate gate;
  GateJob running(gate);
  CountingJob quick;
  CountingJob slow(PoolJob::Class::slow);
  BlockingPool pool({.threads_max = 1});
  pool.submit(running);
  REQUIRE(eventually([&] { return running.begun.load(); }));
  pool.submit(quick);
  pool.submit(slow);
  CHECK(pool.queued() == 2);
  CHECK(pool.try_withdraw(quick));
  CHECK(pool.try_withdraw(slow));
  CHECK_FALSE(pool.try_withdraw(quick));
  CHECK_FALSE(pool.try_withdraw(running));
  CHECK(pool.queued() == 0);
  gate.open();
  REQUIRE(eventually([&] { return running.ended.load(); }));
  pool.submit(quick);  // it may be submitted again
  REQUIRE(eventually([&] { return quick.runs.load() == 1; }));
  CHECK(slow.runs.load() == 0);
}

TEST_CASE("taking back races with running: exactly one of them happens") {
  BlockingPool pool({.threads_max = 2});
  int withdrawn = 0;
  for (int i = 0; i < 3000; ++i) {
    CountingJob job;
    pool.submit(job);
    for (int spin = 0; spin < i % 64; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    if (pool.try_withdraw(job)) {
      ++withdrawn;
      CHECK(job.runs.load() == 0);
    } else {
      REQUIRE(eventually([&] { return job.runs.load() == 1; }));
    }
  }
  INFO("withdrawn: ", withdrawn);
  CHECK(pool.queued() == 0);
}

TEST_CASE("an interrupt, asked again until it hits, ends a hanging call with EINTR") {
  BlockingPool pool;
  for (int round = 0; round < 20; ++round) {
    PipeJob job;
    pool.submit(job);
    REQUIRE(eventually([&] {
      pool.interrupt(job);
      return job.ended.load();
    }));
    CHECK(job.error.load() == EINTR);
  }
}

TEST_CASE("an interrupt for one job hits no other, and one for no running job is harmless") {
  BlockingPool pool;
  PipeJob one;
  PipeJob two;
  CountingJob idle;
  pool.submit(one);
  pool.submit(two);
  REQUIRE(eventually([&] { return one.begun.load() && two.begun.load(); }));
  pool.interrupt(idle);
  REQUIRE(eventually([&] {
    pool.interrupt(one);
    return one.ended.load();
  }));
  CHECK_FALSE(two.ended.load());
  REQUIRE(::write(two.fds[1], "x", 1) == 1);
  REQUIRE(eventually([&] { return two.ended.load(); }));
  CHECK(two.error.load() == 0);
}

TEST_CASE("threads without work end after the keep-alive, and come again") {
  BlockingPool pool({.threads_max = 4, .keep_alive = 2 * kMillisecond});
  for (int round = 0; round < 3; ++round) {
    CountingJob job;
    pool.submit(job);
    REQUIRE(eventually([&] { return job.runs.load() == 1; }));
    REQUIRE(eventually([&] { return pool.threads() == 0; }));
  }
}

TEST_CASE("jobs that come as threads give up are not forgotten") {
  BlockingPool pool({.threads_max = 1, .keep_alive = 100 * kMicrosecond});
  for (int i = 0; i < 2000; ++i) {
    CountingJob job;
    pool.submit(job);
    REQUIRE(eventually([&] { return job.runs.load() == 1; }));
    if (i % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(80 + i % 100));
  }
}

TEST_CASE("pool threads have a name and block the process's signals") {
  struct LookingJob : PoolJob {
    LookingJob() {
      run = [](Runnable& self) noexcept {
        auto& job = static_cast<LookingJob&>(self);
        ::pthread_sigmask(SIG_SETMASK, nullptr, &job.blocked);
        ::pthread_getname_np(::pthread_self(), job.name.data(), job.name.size());
        job.done.store(true);
      };
    }
    sigset_t blocked;
    std::array<char, 16> name{};
    std::atomic<bool> done{false};
  };
  sigset_t before;
  sigset_t after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  LookingJob job;
  BlockingPool pool;
  pool.submit(job);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  REQUIRE(eventually([&] { return job.done.load(); }));
  CHECK(std::string(job.name.data()) == "evlua-pool");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGPIPE, SIGALRM, SIGWINCH, SIGUSR1}) {
    CHECK(sigismember(&job.blocked, signal) == 1);
    CHECK(sigismember(&before, signal) == sigismember(&after, signal));  // the caller's own mask is as it was
  }
}

TEST_CASE("the pool's end waits for what runs and for what is queued") {
  Gate gate;
  GateJob running(gate);
  CountingJob queued;
  std::thread opener;
  {
    BlockingPool pool({.threads_max = 1});
    pool.submit(running);
    REQUIRE(eventually([&] { return running.begun.load(); }));
    pool.submit(queued);
    opener = std::thread([&gate] { gate.open(); });
  }
  CHECK(running.ended.load());
  CHECK(queued.runs.load() == 1);
  opener.join();
}

TEST_CASE("the pool's end interrupts what hangs") {
  PipeJob job;
  const Instant begin = monotonic_now();
  {
    BlockingPool pool;
    pool.submit(job);
    REQUIRE(eventually([&] { return job.begun.load(); }));
  }
  CHECK(job.ended.load());
  CHECK(job.error.load() == EINTR);
  CHECK(monotonic_now() - begin < 20 * kSecond);
}

TEST_CASE("a job that nothing interrupts is left behind, and what was queued never runs") {
  PipeJob stubborn(true);
  CountingJob queued;
  {
    BlockingPool pool({.threads_max = 1});
    pool.submit(stubborn);
    REQUIRE(eventually([&] { return stubborn.begun.load(); }));
    pool.submit(queued);
  }
  CHECK_FALSE(stubborn.ended.load());
  REQUIRE(::write(stubborn.fds[1], "x", 1) == 1);
  REQUIRE(eventually([&] { return stubborn.ended.load(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(queued.runs.load() == 0);
}

}  // namespace
}  // namespace evlua
