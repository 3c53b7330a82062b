// Goal: a strand runs its items one at a time and in order, whoever posts them and whichever worker has time; it is
// handed on fairly, and no item waits for ever.
#include "core/strand.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "core/event.h"
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

/// What the items of one strand see. Plain fields: only the strand guards them.
struct Guarded {
  explicit Guarded(Scheduler& scheduler, std::size_t producers = 1) : strand(scheduler), last(producers, -1) {}

  Strand strand;
  std::vector<int> last;
  long runs = 0;
  long out_of_order = 0;
  long not_on_strand = 0;
  std::atomic<int> inside{0};
  std::atomic<long> overlaps{0};
  std::atomic<long> done{0};
};

struct Item : Runnable {
  Item(Guarded& owner, std::size_t from, int number)
      : Runnable([](Runnable& self) noexcept { static_cast<Item&>(self).go(); }),
        guarded(owner),
        producer(from),
        sequence(number) {}

  void go() noexcept {
    Guarded& own = guarded;
    if (own.inside.fetch_add(1) != 0) ++own.overlaps;
    if (!own.strand.is_current()) ++own.not_on_strand;
    if (own.last[producer] != sequence - 1) ++own.out_of_order;
    own.last[producer] = sequence;
    ++own.runs;
    own.inside.fetch_sub(1);
    own.done.fetch_add(1);
  }

  Guarded& guarded;
  std::size_t producer;
  int sequence;
};

void check_order(const Guarded& guarded, long items) {
  CHECK(guarded.runs == items);
  CHECK(guarded.overlaps.load() == 0);
  CHECK(guarded.out_of_order == 0);
  CHECK(guarded.not_on_strand == 0);
}

TEST_CASE("items of several threads run one at a time, each thread's in its order") {
  constexpr int kThreads = 4;
  constexpr int kEach = 5000;
  for (const unsigned workers : {1U, 2U, 4U}) {
    on_every_backend(workers, [](const Setup& setup) {
      Runtime runtime(setup);
      Guarded guarded(runtime.scheduler(), kThreads);
      std::deque<Item> items;
      for (std::size_t thread = 0; thread < kThreads; ++thread) {
        for (int i = 0; i < kEach; ++i) items.emplace_back(guarded, thread, i);
      }
      beside(runtime, [&] {
        test::on_threads(kThreads, [&](int thread) {
          for (int i = 0; i < kEach; ++i) guarded.strand.enqueue(items[static_cast<std::size_t>(thread * kEach + i)]);
        });
        CHECK(eventually([&] { return guarded.done.load() == kThreads * kEach; }));
      });
      check_order(guarded, kThreads * kEach);
    });
  }
}

TEST_CASE("a strand that falls asleep after each item misses none") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Guarded guarded(runtime.scheduler());
    constexpr int kItems = 3000;
    std::deque<Item> items;
    for (int i = 0; i < kItems; ++i) items.emplace_back(guarded, 0, i);
    beside(runtime, [&] {
      // The next one is posted as the last one ends: just when the strand goes idle and its worker parks.
      for (int i = 0; i < kItems; ++i) {
        guarded.strand.enqueue(items[static_cast<std::size_t>(i)]);
        const Instant late = monotonic_now() + test::kLimit;
        while (guarded.done.load() != i + 1 && monotonic_now() < late) std::this_thread::yield();
        if (guarded.done.load() != i + 1) break;
      }
      CHECK(guarded.done.load() == kItems);
    });
    check_order(guarded, kItems);
  });
}

Task<void> post_range(Guarded& guarded, std::deque<Item>& items, std::size_t from, std::size_t to) {
  Yield yield;
  for (std::size_t i = from; i < to; ++i) {
    guarded.strand.enqueue(items[i]);
    if (i % 64 == 0) co_await yield;
  }
}

Task<int> post_from_tasks(Scheduler& scheduler, Guarded& guarded, std::deque<Item>& items, std::size_t producers) {
  TaskScope scope(scheduler);
  const std::size_t each = items.size() / producers;
  for (std::size_t p = 0; p < producers; ++p) scope.spawn(post_range(guarded, items, p * each, (p + 1) * each));
  co_await scope.join();
  Yield yield;
  const Instant late = monotonic_now() + test::kLimit;
  while (guarded.done.load() != static_cast<long>(items.size()) && monotonic_now() < late) co_await yield;
  guarded.strand.wait_until_left();
  co_return 0;
}

TEST_CASE("items of tasks on the workers run one at a time, each task's in its order") {
  constexpr std::size_t kTasks = 8;
  constexpr int kEach = 2000;
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Guarded guarded(runtime.scheduler(), kTasks);
    std::deque<Item> items;
    for (std::size_t task = 0; task < kTasks; ++task) {
      for (int i = 0; i < kEach; ++i) items.emplace_back(guarded, task, i);
    }
    CHECK(runtime.run(post_from_tasks(runtime.scheduler(), guarded, items, kTasks)) == 0);
    check_order(guarded, static_cast<long>(kTasks) * kEach);
  });
}

Task<void> hop(Strand& strand, std::array<std::atomic<int>, 8>& inside, std::size_t index, long& sum) {
  Yield yield;
  for (int i = 0; i < 200; ++i) {
    CHECK(strand.is_current());
    const bool alone = inside[index].fetch_add(1) == 0;
    CHECK(alone);
    ++sum;
    inside[index].fetch_sub(1);
    co_await yield;
  }
}

Task<int> many_strands(Scheduler& scheduler, std::vector<std::unique_ptr<Strand>>& strands, std::vector<long>& sums) {
  std::array<std::atomic<int>, 8> inside{};
  TaskScope scope(scheduler);
  for (std::size_t s = 0; s < strands.size(); ++s) {
    for (int member = 0; member < 10; ++member) scope.spawn_on(*strands[s], hop(*strands[s], inside, s, sums[s]));
  }
  co_await scope.join();
  for (const std::unique_ptr<Strand>& strand : strands) strand->wait_until_left();
  co_return 0;
}

TEST_CASE("coroutines that live on strands exclude each other, and all strands go on") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    std::vector<std::unique_ptr<Strand>> strands;
    for (int s = 0; s < 8; ++s) strands.push_back(std::make_unique<Strand>(runtime.scheduler()));
    std::vector<long> sums(strands.size());
    CHECK(runtime.run(many_strands(runtime.scheduler(), strands, sums)) == 0);
    for (const long sum : sums) CHECK(sum == 2000);
  });
}

/// Makes itself anew until told otherwise: the strand is never idle.
struct Perpetual : Runnable {
  explicit Perpetual(Strand& own)
      : Runnable([](Runnable& self) noexcept {
          auto& item = static_cast<Perpetual&>(self);
          item.turns.fetch_add(1);
          if (item.stop.load()) {
            item.ended = true;
          } else {
            item.strand.enqueue(item);
          }
        }),
        strand(own) {}

  Strand& strand;
  std::atomic<long> turns{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> ended{false};
};

Task<int> beside_a_busy_strand(Perpetual& busy) {
  busy.strand.enqueue(busy);
  Yield yield;
  for (int i = 0; i < 100; ++i) co_await yield;
  IoAwait sleep = io::sleep_until(monotonic_now() + 5 * kMillisecond);
  const Result<std::int32_t> slept = co_await sleep;
  const bool busy_meanwhile = busy.turns.load() > 0 && !busy.ended.load();
  busy.stop = true;
  const Instant late = monotonic_now() + test::kLimit;
  while (!busy.ended.load() && monotonic_now() < late) co_await yield;
  busy.strand.wait_until_left();
  co_return slept&& busy_meanwhile&& busy.ended.load() ? 0 : 1;
}

TEST_CASE("a strand that makes work for itself leaves time for others and for timers") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Strand strand(runtime.scheduler());
    Perpetual busy(strand);
    CHECK(runtime.run(beside_a_busy_strand(busy)) == 0);
  });
}

TEST_CASE("work posted from outside gets in although the strand makes work for itself") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Guarded guarded(runtime.scheduler());
    Perpetual busy(guarded.strand);
    std::deque<Item> items;
    for (int i = 0; i < 1000; ++i) items.emplace_back(guarded, 0, i);
    beside(runtime, [&] {
      guarded.strand.enqueue(busy);
      for (Item& item : items) guarded.strand.enqueue(item);
      CHECK(eventually([&] { return guarded.done.load() == 1000; }));
      CHECK_FALSE(busy.ended.load());
      busy.stop = true;
      CHECK(eventually([&] { return busy.ended.load(); }));
      guarded.strand.wait_until_left();
    });
    check_order(guarded, 1000);
  });
}

/// Blocks its worker until the first strand's item has run, which then must be on another worker.
Task<int> blocks_with_two_strands(Guarded& stolen, Item& item, Guarded& hot, Item& other) {
  stolen.strand.enqueue(item);
  hot.strand.enqueue(other);  // displaces the first one from the next slot, which no thief sees
  const bool done = eventually([&] { return stolen.done.load() == 1; });
  Yield yield;
  const Instant late = monotonic_now() + test::kLimit;
  while (hot.done.load() != 1 && monotonic_now() < late) co_await yield;
  stolen.strand.wait_until_left();
  hot.strand.wait_until_left();
  co_return done&& hot.done.load() == 1 ? 0 : 1;
}

TEST_CASE("an idle worker steals a strand that waits behind a blocked one") {
  on_every_backend(2, [](const Setup& setup) {
    Runtime runtime(setup);
    Guarded stolen(runtime.scheduler());
    Guarded hot(runtime.scheduler());
    Item item(stolen, 0, 0);
    Item other(hot, 0, 0);
    CHECK(runtime.run(blocks_with_two_strands(stolen, item, hot, other)) == 0);
    const std::uint64_t thefts = runtime.scheduler().worker(0).counters().tasks_stolen.load() +
                                 runtime.scheduler().worker(1).counters().tasks_stolen.load();
    CHECK(thefts >= 1);
  });
}

Task<int> run_directly(Guarded& outer, Guarded& inner) {
  int order = 0;
  Item queued(outer, 0, 0);
  const bool entered = outer.strand.try_run([&] {
    if (outer.strand.is_current()) ++order;
    outer.strand.enqueue(queued);  // after this body, within try_run
    const bool again = outer.strand.try_run([&] { order += 100; });
    const bool nested = inner.strand.try_run([&] {
      if (inner.strand.is_current() && !outer.strand.is_current()) ++order;
    });
    if (again || !nested || !outer.strand.is_current()) order += 100;
  });
  co_return entered&& order == 2 && outer.runs == 1 && !outer.strand.is_current() ? 0 : 1;
}

TEST_CASE("an idle strand is entered directly, then finishes what came meanwhile; a busy one refuses") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Guarded outer(runtime.scheduler());
    Guarded inner(runtime.scheduler());
    CHECK(runtime.run(run_directly(outer, inner)) == 0);
    check_order(outer, 1);
  });
}

struct Entering {
  Guarded& guarded;
  long entered = 0;  // guarded by the strand
  std::atomic<long> direct{0};
  std::atomic<long> refused{0};
};

Task<void> enter_often(Entering& entering, std::deque<Item>& items, std::size_t from, std::size_t to) {
  Yield yield;
  for (std::size_t i = from; i < to; ++i) {
    const bool ran = entering.guarded.strand.try_run([&] {
      if (entering.guarded.inside.fetch_add(1) != 0) ++entering.guarded.overlaps;
      ++entering.entered;
      entering.guarded.inside.fetch_sub(1);
    });
    ++(ran ? entering.direct : entering.refused);
    entering.guarded.strand.enqueue(items[i]);
    if (i % 8 == 0) co_await yield;
  }
}

Task<int> enter_from_tasks(Scheduler& scheduler, Entering& entering, std::deque<Item>& items) {
  TaskScope scope(scheduler);
  const std::size_t each = items.size() / 4;
  for (std::size_t p = 0; p < 4; ++p) scope.spawn(enter_often(entering, items, p * each, (p + 1) * each));
  co_await scope.join();
  Yield yield;
  const Instant late = monotonic_now() + test::kLimit;
  while (entering.guarded.done.load() != static_cast<long>(items.size()) && monotonic_now() < late) co_await yield;
  entering.guarded.strand.wait_until_left();
  co_return 0;
}

TEST_CASE("entering directly and posting exclude each other") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Guarded guarded(runtime.scheduler(), 4);
    Entering entering{guarded};
    std::deque<Item> items;
    for (std::size_t task = 0; task < 4; ++task) {
      for (int i = 0; i < 3000; ++i) items.emplace_back(guarded, task, i);
    }
    CHECK(runtime.run(enter_from_tasks(runtime.scheduler(), entering, items)) == 0);
    check_order(guarded, 12'000);
    CHECK(entering.entered == entering.direct.load());
    CHECK(entering.direct.load() + entering.refused.load() == 12'000);
    CHECK(entering.direct.load() > 0);
  });
}

}  // namespace
}  // namespace evlua
