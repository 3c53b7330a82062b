// Goal: work gets in from any thread and wakes who sleeps, nobody is starved, sleeps are never short, idleness is free,
// and the scheduler ends only when everything has.
#include "core/scheduler.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "core/event.h"
#include "core/io_await.h"
#include "core/scope.h"
#include "tests/core/runtime.h"
#include "tests/support/threads.h"

namespace evlua {
namespace {

using test::beside;
using test::eventually;
using test::on_every_backend;
using test::on_every_setup;
using test::Runtime;
using test::Setup;
using test::Yield;

struct Counting : Runnable {
  explicit Counting(std::atomic<int>& count)
      : Runnable([](Runnable& self) noexcept {
          if (Worker::current_or_null() != nullptr) static_cast<Counting&>(self).done.fetch_add(1);
        }),
        done(count) {}
  std::atomic<int>& done;
};

Task<int> give(int value) { co_return value; }

TEST_CASE("the main task's result is the result, and a scheduler that never ran ends quietly") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    CHECK(runtime.run(give(42)) == 42);
    const Runtime unused(setup);
  });
}

TEST_CASE("work of many foreign threads is run by workers, once each") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    std::atomic<int> done{0};
    std::deque<Counting> work;
    for (int i = 0; i < 20'000; ++i) work.emplace_back(done);
    beside(runtime, [&] {
      test::on_threads(4, [&](int thread) {
        for (std::size_t i = static_cast<std::size_t>(thread); i < work.size(); i += 4) {
          runtime.scheduler().enqueue(work[i]);
        }
      });
      CHECK(eventually([&] { return done.load() >= 20'000; }));
    });
    CHECK(done.load() == 20'000);
  });
}

TEST_CASE("each single piece of foreign work wakes a sleeping worker") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    std::atomic<int> done{0};
    std::deque<Counting> work;
    for (int i = 0; i < 2000; ++i) work.emplace_back(done);
    beside(runtime, [&] {
      for (int i = 0; i < 2000; ++i) {
        runtime.scheduler().enqueue(work[static_cast<std::size_t>(i)]);
        const Instant late = monotonic_now() + test::kLimit;
        while (done.load() != i + 1 && monotonic_now() < late) std::this_thread::yield();
        if (done.load() != i + 1) break;
      }
      CHECK(done.load() == 2000);
    });
  });
}

TEST_CASE("work pinned to a worker by a foreign thread runs there") {
  on_every_setup([](const Setup& setup) {
    struct Pinned : Runnable {
      explicit Pinned(Worker& wanted)
          : Runnable([](Runnable& self) noexcept {
              auto& work = static_cast<Pinned&>(self);
              (&Worker::current() == &work.worker ? work.right : work.wrong) = true;
            }),
            worker(wanted) {}
      Worker& worker;
      std::atomic<bool> right{false};
      std::atomic<bool> wrong{false};
    };
    Runtime runtime(setup);
    std::deque<Pinned> work;
    for (unsigned i = 0; i < 500; ++i) work.emplace_back(runtime.scheduler().worker(i % setup.workers));
    beside(runtime, [&] {
      for (Pinned& each : work) {
        each.worker.pinned().enqueue(each);
        CHECK(eventually([&] { return each.right.load() || each.wrong.load(); }));
      }
    });
    for (const Pinned& each : work) CHECK(each.right.load());
  });
}

Task<void> yield_until(std::atomic<bool>& stop, std::atomic<long>& turns) {
  Yield yield;
  while (!stop.load()) {
    ++turns;
    co_await yield;
  }
}

Task<void> pass_bytes(int from, int to, int times, std::atomic<int>& passed) {
  char byte = 'x';
  for (int i = 0; i < times; ++i) {
    IoAwait send = io::send(to, &byte, 1);
    const Result<std::int32_t> sent = co_await send;
    IoAwait recv = io::recv(from, &byte, 1);
    const Result<std::int32_t> got = co_await recv;
    if (sent && got && *got == 1) ++passed;
  }
}

Task<int> share_with_yielders(Scheduler& scheduler, const std::array<int, 2>& pair, std::atomic<int>& passed) {
  TaskScope scope(scheduler);
  std::atomic<bool> stop{false};
  std::array<std::atomic<long>, 4> turns{};
  for (std::atomic<long>& own : turns) scope.spawn(yield_until(stop, own));
  co_await pass_bytes(pair[0], pair[1], 50, passed);
  IoAwait sleep = io::sleep_until(monotonic_now() + 5 * kMillisecond);
  const Result<std::int32_t> slept = co_await sleep;
  Yield yield;
  const Instant late = monotonic_now() + test::kLimit;
  bool all = false;
  while (!all && monotonic_now() < late) {
    all = true;
    for (const std::atomic<long>& own : turns) all = all && own.load() > 100;
    co_await yield;
  }
  stop = true;
  co_await scope.join();
  co_return slept&& all ? 0 : 1;
}

TEST_CASE("tasks that only yield starve neither each other nor sockets nor timers") {
  on_every_setup([](const Setup& setup) {
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) == 0);
    {
      Runtime runtime(setup);
      std::atomic<int> passed{0};
      CHECK(runtime.run(share_with_yielders(runtime.scheduler(), pair, passed)) == 0);
      CHECK(passed.load() == 50);
    }
    ::close(pair[0]);
    ::close(pair[1]);
  });
}

Task<int> yield_until_done(Scheduler& scheduler, std::atomic<int>& done, int wanted) {
  TaskScope scope(scheduler);
  std::atomic<bool> stop{false};
  std::atomic<long> turns{0};
  for (unsigned i = 0; i < 2 * scheduler.worker_count(); ++i) scope.spawn(yield_until(stop, turns));
  Yield yield;
  const Instant late = monotonic_now() + test::kLimit;
  while (done.load() < wanted && monotonic_now() < late) co_await yield;
  stop = true;
  co_await scope.join();
  co_return done.load();
}

TEST_CASE("foreign work gets in although the workers are never idle") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    std::atomic<int> done{0};
    std::deque<Counting> work;
    for (int i = 0; i < 200; ++i) work.emplace_back(done);
    std::thread thread([&] {
      for (Counting& each : work) runtime.scheduler().enqueue(each);
    });
    CHECK(runtime.run(yield_until_done(runtime.scheduler(), done, 200)) == 200);
    thread.join();
  });
}

Task<void> yield_bounded(const std::atomic<bool>& stop, long& turns) {
  Yield yield;
  for (; !stop.load() && turns < 100'000; ++turns) co_await yield;
}

Task<void> set_flag(std::atomic<bool>& flag) {
  flag = true;
  co_return;
}

Task<int> share_a_worker(Scheduler& scheduler, bool pinned_yields, long& turns) {
  TaskScope scope(scheduler);
  std::atomic<bool> stop{false};
  Executor& pinned = scheduler.worker(0).pinned();
  Executor& any = scheduler;
  Yield yield;
  scope.spawn_on(pinned_yields ? pinned : any, yield_bounded(stop, turns));
  co_await yield;
  scope.spawn_on(pinned_yields ? any : pinned, set_flag(stop));
  co_await scope.join();
  co_return 0;
}

TEST_CASE("pinned work and work for any worker do not shut each other out") {
  on_every_backend(1, [](const Setup& setup) {
    for (const bool pinned_yields : {true, false}) {
      CAPTURE(pinned_yields);
      Runtime runtime(setup);
      long turns = 0;
      CHECK(runtime.run(share_a_worker(runtime.scheduler(), pinned_yields, turns)) == 0);
      CHECK(turns < 1000);
    }
  });
}

Duration process_time() {
  timespec spent{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
  return static_cast<Duration>(spent.tv_sec) * kSecond + spent.tv_nsec;
}

Task<int> sleep_for(Duration duration) {
  const Instant deadline = monotonic_now() + duration;
  IoAwait sleep = io::sleep_until(deadline);
  const Result<std::int32_t> slept = co_await sleep;
  co_return slept&& monotonic_now() >= deadline ? 0 : 1;
}

Task<int> cpu_while_idle(Duration& spent, std::uint64_t& parks, Scheduler& scheduler) {
  const int warm = co_await sleep_for(10 * kMillisecond);  // all have started
  const Duration before = process_time();
  const std::uint64_t parked = scheduler.worker(0).counters().parks.load();
  const int slept = co_await sleep_for(300 * kMillisecond);
  spent = process_time() - before;
  parks = scheduler.worker(0).counters().parks.load() - parked;
  co_return warm + slept;
}

TEST_CASE("waiting costs no processor time and few wake-ups") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Duration spent = 0;
    std::uint64_t parks = 0;
    CHECK(runtime.run(cpu_while_idle(spent, parks, runtime.scheduler())) == 0);
    CHECK(spent < 30 * kMillisecond);
    CHECK(parks < 20);
  });
}

struct Wakings {
  SpinLock lock;
  std::vector<int> order;
  std::atomic<int> early{0};
};

Task<void> sleep_and_note(Wakings& wakings, Instant deadline, int index) {
  IoAwait sleep = io::sleep_until(deadline);
  const Result<std::int32_t> slept = co_await sleep;
  if (!slept || monotonic_now() < deadline) ++wakings.early;
  wakings.lock.lock();
  wakings.order.push_back(index);
  wakings.lock.unlock();
}

/// On one worker, so that there is one timer heap and an order to speak of.
Task<int> sleep_in_order(Scheduler& scheduler, Wakings& wakings) {
  TaskScope scope(scheduler.worker(0).pinned());
  // Far enough ahead that all sleep before the first wakes.
  const Instant begin = monotonic_now() + 200 * kMillisecond;
  for (int i = 0; i < 100; ++i) {
    const int index = i * 37 % 100;
    scope.spawn(sleep_and_note(wakings, begin + index * 300 * kMicrosecond, index));
  }
  co_await scope.join();
  co_return 0;
}

TEST_CASE("sleepers wake in the order of their deadlines, and never early") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Wakings wakings;
    CHECK(runtime.run(sleep_in_order(runtime.scheduler(), wakings)) == 0);
    CHECK(wakings.early.load() == 0);
    REQUIRE(wakings.order.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(wakings.order[static_cast<std::size_t>(i)] == i);
  });
}

Task<int> sleep_in_the_past() {
  for (const Instant deadline : {Instant{0}, Instant{-1}, monotonic_now() - kSecond, monotonic_now()}) {
    IoAwait sleep = io::sleep_until(deadline);
    const Result<std::int32_t> slept = co_await sleep;
    if (!slept) co_return 1;
  }
  co_return 0;
}

TEST_CASE("a sleep until a moment in the past ends at once") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    const Instant begin = monotonic_now();
    CHECK(runtime.run(sleep_in_the_past()) == 0);
    CHECK(monotonic_now() - begin < 10 * kSecond);
  });
}

/// Ends once tasks have been on every worker at the same time.
Task<void> meet(std::atomic<unsigned>& present, unsigned wanted, std::atomic<int>& met) {
  ++present;
  if (eventually([&] { return present.load() >= wanted; })) ++met;
  co_return;
}

Task<int> meet_everywhere(Scheduler& scheduler) {
  TaskScope scope(scheduler);
  std::atomic<unsigned> present{0};
  std::atomic<int> met{0};
  for (unsigned i = 0; i < scheduler.worker_count(); ++i) scope.spawn(meet(present, scheduler.worker_count(), met));
  co_await scope.join();
  co_return met.load();
}

TEST_CASE("idle workers steal: tasks spawned by one run on all at once") {
  for (const unsigned workers : {2U, 4U}) {
    on_every_backend(workers, [](const Setup& setup) {
      for (int round = 0; round < 20; ++round) {
        Runtime runtime(setup);
        CHECK(runtime.run(meet_everywhere(runtime.scheduler())) == static_cast<int>(setup.workers));
      }
    });
  }
}

Task<int> leave_closes_behind(const std::vector<int>& fds) {
  for (const int fd : fds) Worker::current().close_later(fd);
  co_return 3;
}

TEST_CASE("the scheduler ends only when the operations in flight have") {
  on_every_setup([](const Setup& setup) {
    std::vector<int> fds;
    for (int i = 0; i < 64; ++i) {
      std::array<int, 2> ends{};
      REQUIRE(::pipe(ends.data()) == 0);
      fds.insert(fds.end(), ends.begin(), ends.end());
    }
    {
      Runtime runtime(setup);
      CHECK(runtime.run(leave_closes_behind(fds)) == 3);
    }
    for (const int fd : fds) {
      CHECK(::close(fd) == -1);
      CHECK(errno == EBADF);
    }
  });
}

}  // namespace
}  // namespace evlua
