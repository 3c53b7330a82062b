// Goal: a scope waits for everything spawned into it, on whatever thread and executor; a cancel reaches every child,
// present and future, nested scopes included, and never leaves one behind.
#include "core/scope.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <thread>
#include <vector>

#include "core/event.h"
#include "core/io_await.h"
#include "core/strand.h"
#include "tests/core/runtime.h"

namespace evlua {
namespace {

using test::on_every_setup;
using test::Runtime;
using test::Setup;
using test::Yield;

/// What children report.
struct Tally {
  std::atomic<int> started{0};
  std::atomic<int> ended{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> timed_out{0};
};

Task<void> yield_some(Tally& tally, int times) {
  ++tally.started;
  Yield yield;
  for (int i = 0; i < times; ++i) co_await yield;
  ++tally.ended;
}

Task<void> sleep_until(Tally& tally, Instant deadline) {
  ++tally.started;
  IoAwait sleep = io::sleep_until(deadline);
  const Result<std::int32_t> slept = co_await sleep;
  if (!slept && slept.error().is(ECANCELED)) ++tally.cancelled;
  if (!slept && slept.error().is(ETIMEDOUT)) ++tally.timed_out;
  ++tally.ended;
}

Task<void> until_started(Tally& tally, int count) {
  Yield yield;
  while (tally.started.load() < count) co_await yield;
}

Task<int> wait_for_all(Scheduler& scheduler, Tally& tally) {
  TaskScope scope(scheduler);
  co_await scope.join();  // of nothing
  for (int i = 0; i < 500; ++i) scope.spawn(yield_some(tally, i % 7));
  for (int i = 0; i < 50; ++i) scope.spawn(sleep_until(tally, monotonic_now() + (i % 5) * kMillisecond));
  co_await scope.join();
  const bool all = tally.ended.load() == 550 && scope.size() == 0;
  scope.spawn(yield_some(tally, 3));  // it goes on being a scope
  co_await scope.join();
  co_return all&& tally.ended.load() == 551 ? 0 : 1;
}

TEST_CASE("join waits for all children, and a scope can be used again after it") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Tally tally;
    CHECK(runtime.run(wait_for_all(runtime.scheduler(), tally)) == 0);
    CHECK(tally.cancelled.load() == 0);
  });
}

Task<void> note_start(std::atomic<bool>& started) {
  started = true;
  co_return;
}

Task<int> spawn_starts_later(Scheduler& scheduler) {
  TaskScope scope(scheduler.worker(0).pinned());
  std::atomic<bool> started{false};
  scope.spawn(note_start(started));
  const bool inline_start = Worker::current().index() == 0 && started.load();
  const std::size_t size = scope.size();
  co_await scope.join();
  co_return !inline_start && size == 1 && started.load() ? 0 : 1;
}

TEST_CASE("a child starts soon, not inside spawn") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    CHECK(runtime.run(spawn_starts_later(runtime.scheduler())) == 0);
  });
}

Task<void> spawn_more(TaskScope& scope, Tally& tally, int levels) {
  ++tally.started;
  if (levels > 0) {
    scope.spawn(spawn_more(scope, tally, levels - 1));
    scope.spawn(spawn_more(scope, tally, levels - 1));
  }
  ++tally.ended;
  co_return;
}

Task<int> children_spawn(Scheduler& scheduler, Tally& tally) {
  TaskScope scope(scheduler);
  scope.spawn(spawn_more(scope, tally, 12));
  co_await scope.join();
  co_return tally.ended.load();
}

TEST_CASE("what children spawn into their own scope is waited for too") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Tally tally;
    CHECK(runtime.run(children_spawn(runtime.scheduler(), tally)) == (1 << 13) - 1);
  });
}

Task<int> cancel_all(Scheduler& scheduler, Tally& tally, bool all_wait) {
  TaskScope scope(scheduler);
  for (int i = 0; i < 200; ++i) scope.spawn(sleep_until(tally, kNever));
  if (all_wait) co_await until_started(tally, 200);
  scope.cancel();
  scope.cancel();  // harmless
  co_await scope.join();
  co_return tally.cancelled.load();
}

TEST_CASE("a cancel ends every wait of every child, those not yet started included") {
  on_every_setup([](const Setup& setup) {
    for (const bool all_wait : {true, false}) {
      CAPTURE(all_wait);
      Runtime runtime(setup);
      Tally tally;
      CHECK(runtime.run(cancel_all(runtime.scheduler(), tally, all_wait)) == 200);
      CHECK(tally.ended.load() == 200);
    }
  });
}

Task<int> spawn_after_cancel(Scheduler& scheduler, Tally& tally) {
  TaskScope scope(scheduler);
  scope.cancel();
  for (int i = 0; i < 20; ++i) scope.spawn(sleep_until(tally, kNever));
  for (int i = 0; i < 20; ++i) scope.spawn(yield_some(tally, 5));
  co_await scope.join();
  co_return tally.cancelled.load() == 20 && tally.ended.load() == 40 ? 0 : 1;
}

TEST_CASE("a task spawned into a cancelled scope runs, with every wait cancelled") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Tally tally;
    CHECK(runtime.run(spawn_after_cancel(runtime.scheduler(), tally)) == 0);
  });
}

Task<void> sleeps_that_are_all_cancelled(Tally& tally) {
  ++tally.started;
  for (int i = 0; i < 10; ++i) {
    IoAwait sleep = io::sleep_until(kNever);
    const Result<std::int32_t> slept = co_await sleep;
    if (!slept && slept.error().is(ECANCELED)) ++tally.cancelled;
  }
  ++tally.ended;
}

Task<int> later_waits(Scheduler& scheduler, Tally& tally) {
  TaskScope scope(scheduler);
  scope.spawn(sleeps_that_are_all_cancelled(tally));
  co_await until_started(tally, 1);
  scope.cancel();
  co_await scope.join();
  co_return tally.cancelled.load();
}

TEST_CASE("a cancelled child stays cancelled for its later waits") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Tally tally;
    CHECK(runtime.run(later_waits(runtime.scheduler(), tally)) == 10);
  });
}

Task<int> with_deadline(Scheduler& scheduler, Tally& tally, Instant deadline) {
  TaskScope scope(scheduler, deadline);
  for (int i = 0; i < 20; ++i) scope.spawn(sleeps_that_are_all_cancelled(tally));
  for (int i = 0; i < 20; ++i) scope.spawn(yield_some(tally, 20));
  co_await scope.join();
  co_return tally.ended.load();
}

TEST_CASE("a scope's deadline, also one in the past, ends the waits of its children") {
  on_every_setup([](const Setup& setup) {
    for (const Duration after : {-kSecond, Duration{0}, 20 * kMillisecond}) {
      CAPTURE(after);
      Runtime runtime(setup);
      Tally tally;
      const Instant deadline = monotonic_now() + after;
      CHECK(runtime.run(with_deadline(runtime.scheduler(), tally, deadline)) == 40);
      CHECK(monotonic_now() >= deadline);
      // A sleep that is over at the context's deadline is a sleep that is over; nobody asked to cancel.
      CHECK(tally.cancelled.load() == 0);
    }
  });
}

Task<void> nest(Scheduler& scheduler, Tally& tally, int levels) {
  TaskScope scope(scheduler);
  for (int i = 0; i < 3; ++i) {
    if (levels > 0) {
      scope.spawn(nest(scheduler, tally, levels - 1));
    } else {
      scope.spawn(sleep_until(tally, kNever));
    }
  }
  co_await scope.join();
  // Every child has ended before its scope goes on.
  if (scope.size() == 0) ++tally.ended;
}

constexpr int kLeaves = 81;
constexpr int kNodes = 1 + 3 + 9 + 27;

Task<int> cancel_nested(Scheduler& scheduler, Tally& tally, bool all_wait) {
  TaskScope scope(scheduler);
  scope.spawn(nest(scheduler, tally, 3));
  if (all_wait) co_await until_started(tally, kLeaves);
  scope.cancel();
  co_await scope.join();
  co_return tally.cancelled.load();
}

TEST_CASE("a cancel goes down through nested scopes, and each still waits for its own") {
  on_every_setup([](const Setup& setup) {
    for (const bool all_wait : {true, false}) {
      CAPTURE(all_wait);
      Runtime runtime(setup);
      Tally tally;
      CHECK(runtime.run(cancel_nested(runtime.scheduler(), tally, all_wait)) == kLeaves);
      CHECK(tally.ended.load() == kLeaves + kNodes);
    }
  });
}

Task<int> cancel_the_inner(Scheduler& scheduler, Tally& inside, Tally& outside, Event& go_on) {
  TaskScope outer(scheduler);
  for (int i = 0; i < 10; ++i) outer.spawn(sleep_until(outside, monotonic_now() + 30 * kMillisecond));
  {
    TaskScope inner(scheduler);
    for (int i = 0; i < 10; ++i) inner.spawn(sleep_until(inside, kNever));
    inner.cancel();
    co_await inner.join();
  }
  go_on.set();
  co_await outer.join();
  co_return inside.cancelled.load() == 10 && outside.cancelled.load() == 0 && outside.ended.load() == 10 ? 0 : 1;
}

TEST_CASE("cancelling an inner scope leaves the outer one alone") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Tally inside;
    Tally outside;
    Event go_on;
    CHECK(runtime.run(cancel_the_inner(runtime.scheduler(), inside, outside, go_on)) == 0);
  });
}

/// The way of `all`: the first that fails cancels its siblings.
Task<void> fail_or_sleep(TaskScope& scope, Tally& tally, std::atomic<int>& first, int index) {
  if (index == 7) {
    co_await until_started(tally, 9);
    int nobody = -1;
    first.compare_exchange_strong(nobody, index);
    scope.cancel();
    co_return;
  }
  co_await sleep_until(tally, kNever);
}

Task<int> first_failure(Scheduler& scheduler, Tally& tally) {
  TaskScope scope(scheduler);
  std::atomic<int> first{-1};
  for (int i = 0; i < 10; ++i) scope.spawn(fail_or_sleep(scope, tally, first, i));
  co_await scope.join();
  co_return first.load();
}

TEST_CASE("a child may cancel the scope it is in: its siblings end") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Tally tally;
    CHECK(runtime.run(first_failure(runtime.scheduler(), tally)) == 7);
    CHECK(tally.cancelled.load() == 9);
  });
}

Task<void> strand_member(Strand& strand, int& unguarded, int times) {
  Yield yield;
  for (int i = 0; i < times; ++i) {
    CHECK(strand.is_current());
    ++unguarded;
    co_await yield;
  }
}

Task<void> pinned_member(Worker& worker, std::atomic<int>& right, int times) {
  Yield yield;
  for (int i = 0; i < times; ++i) {
    if (&Worker::current() == &worker) ++right;
    co_await yield;
  }
}

Task<int> on_executors(Scheduler& scheduler, Strand& strand, int& unguarded, std::atomic<int>& right) {
  TaskScope scope(scheduler);
  Worker& last = scheduler.worker(scheduler.worker_count() - 1);
  for (int i = 0; i < 50; ++i) scope.spawn_on(strand, strand_member(strand, unguarded, 20));
  for (int i = 0; i < 50; ++i) scope.spawn_on(last.pinned(), pinned_member(last, right, 20));
  co_await scope.join();
  strand.wait_until_left();
  co_return right.load();
}

TEST_CASE("children run on the executor they were spawned on") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Strand strand(runtime.scheduler());
    int unguarded = 0;
    std::atomic<int> right{0};
    CHECK(runtime.run(on_executors(runtime.scheduler(), strand, unguarded, right)) == 1000);
    CHECK(unguarded == 1000);
  });
}

Task<int> foreign_spawns(Scheduler& scheduler, Tally& tally, std::vector<std::thread>& threads) {
  TaskScope scope(scheduler);
  Event all_spawned;
  std::atomic<int> spawning{3};
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&scope, &tally, &all_spawned, &spawning] {
      for (int i = 0; i < 300; ++i) scope.spawn(sleep_until(tally, kNever));
      if (spawning.fetch_sub(1) == 1) all_spawned.set();
    });
  }
  const Instant late = monotonic_now() + test::kLimit;
  Event::Wait wait = all_spawned.wait(late);
  const Result<void> woken = co_await wait;
  // A cancel from a thread of its own races with starting children.
  threads.emplace_back([&scope] { scope.cancel(); });
  co_await scope.join();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  co_return woken ? tally.cancelled.load() : -1;
}

TEST_CASE("foreign threads spawn into a scope and cancel it") {
  on_every_setup([](const Setup& setup) {
    for (int round = 0; round < 5; ++round) {
      Runtime runtime(setup);
      Tally tally;
      std::vector<std::thread> threads;
      CHECK(runtime.run(foreign_spawns(runtime.scheduler(), tally, threads)) == 900);
    }
  });
}

}  // namespace
}  // namespace evlua
