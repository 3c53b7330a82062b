// Goal: each lock excludes, is given up and found again, and lets those sleep who wait long.
#include <time.h>

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "core/lockfree/futex_mutex.h"
#include "core/lockfree/rw_lock.h"
#include "core/lockfree/spin_lock.h"
#include "core/time.h"
#include "tests/support/doctest.h"
#include "tests/support/threads.h"

namespace evlua {
namespace {

using test::on_threads;

/// A plain counter in two halves: any two threads inside at once would be seen, by us or by ThreadSanitizer.
struct Guarded {
  long first = 0;
  long second = 0;
  void add() {
    ++first;
    ++second;
  }
  bool whole() const { return first == second; }
};

TEST_CASE_TEMPLATE("a lock lets one thread in at a time", Lock, SpinLock, FutexMutex, RwLock) {
  constexpr int kThreads = 4;
  constexpr int kTurns = 50'000;
  Lock lock;
  Guarded guarded;
  std::atomic<int> by_trying{0};
  on_threads(kThreads, [&](int thread) {
    for (int n = 0; n < kTurns; ++n) {
      if (thread == 0 && lock.try_lock()) {
        by_trying.fetch_add(1);
        guarded.add();
        lock.unlock();
        continue;
      }
      std::lock_guard guard(lock);
      guarded.add();
    }
  });
  CHECK(guarded.first == kThreads * kTurns);
  CHECK(guarded.whole());
}

TEST_CASE_TEMPLATE("trying a lock fails while it is held, and only then", Lock, SpinLock, FutexMutex, RwLock) {
  Lock lock;
  REQUIRE(lock.try_lock());
  CHECK_FALSE(lock.try_lock());
  lock.unlock();
  lock.lock();
  bool got = true;
  std::thread([&] { got = lock.try_lock(); }).join();
  CHECK_FALSE(got);
  lock.unlock();
  REQUIRE(lock.try_lock());
  lock.unlock();
}

/// CPU time of the calling thread.
Duration thread_cpu_time() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

TEST_CASE_TEMPLATE("a thread that waits long for a lock sleeps and is woken", Lock, FutexMutex, RwLock) {
  constexpr Duration kHeld = 100 * kMillisecond;
  Lock lock;
  std::atomic<bool> waiting{false};
  Duration used = 0;
  lock.lock();
  std::thread waiter([&] {
    waiting.store(true);
    const Duration before = thread_cpu_time();
    lock.lock();
    used = thread_cpu_time() - before;
    lock.unlock();
  });
  while (!waiting.load()) std::this_thread::yield();
  const Instant until = monotonic_now() + kHeld;
  while (monotonic_now() < until) std::this_thread::yield();
  lock.unlock();
  waiter.join();
  CHECK(used < kHeld / 2);  // a spinning waiter would have used its share of two processors, or all of one
}

TEST_CASE("readers share a reader-writer lock, a writer does not") {
  RwLock lock;
  lock.lock_shared();
  CHECK(lock.try_lock_shared());
  CHECK_FALSE(lock.try_lock());
  lock.unlock_shared();
  CHECK_FALSE(lock.try_lock());
  lock.unlock_shared();
  REQUIRE(lock.try_lock());
  CHECK_FALSE(lock.try_lock_shared());
  lock.unlock();
  CHECK(lock.try_lock_shared());
  lock.unlock_shared();
}

TEST_CASE("readers under load never see a writer's half-done work") {
  RwLock lock;
  Guarded guarded;
  std::atomic<int> torn{0};
  on_threads(4, [&](int thread) {
    for (int n = 0; n < 80'000; ++n) {
      if (thread == 0 || (thread == 1 && n % 4 == 0)) {
        std::unique_lock guard(lock);
        guarded.add();
      } else {
        std::shared_lock guard(lock);
        if (!guarded.whole()) torn.fetch_add(1);
      }
    }
  });
  CHECK(torn.load() == 0);
  CHECK(guarded.first == 100'000);
}

TEST_CASE("a writer gets in although readers overlap without a gap") {
  RwLock lock;
  std::atomic<bool> written{false};
  std::atomic<int> inside{0};
  on_threads(3, [&](int thread) {
    if (thread == 2) {
      while (inside.load() == 0) std::this_thread::yield();
      lock.lock();
      written.store(true);
      lock.unlock();
      return;
    }
    // Each of the two stays inside until the other is in as well, or the writer keeps that one out.
    while (!written.load()) {
      lock.lock_shared();
      inside.fetch_add(1);
      const Instant until = monotonic_now() + kMillisecond;
      while (inside.load() < 2 && monotonic_now() < until) std::this_thread::yield();
      inside.fetch_sub(1);
      lock.unlock_shared();
    }
  });
  CHECK(written.load());
}

}  // namespace
}  // namespace evlua
