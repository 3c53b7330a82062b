// Goal: every item pushed comes out exactly once and oldest first, whatever owner and thieves do meanwhile. First each
// small situation in every interleaving, with four slots; then many items on real threads.
#include "core/deque.h"

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/doctest.h"
#include "tests/support/stepper.h"

namespace evlua {
namespace {

using test::Stepper;
using SteppedDeque = StealingDeque<4, test::SteppedAtomics>;

/// Items are told apart by their place in an array; an observer notes each as it comes out.
struct Ledger {
  static constexpr int kItems = 12;
  std::array<Runnable, kItems> items;
  std::array<int, kItems> taken{};
  bool ordered = true;

  struct Observer {
    int last = -1;
  };

  int number(const Runnable* item) const { return static_cast<int>(item - items.data()); }

  /// Returns whether there was an item.
  bool note(Observer& observer, const Runnable* item) {
    if (item == nullptr) return false;
    const int n = number(item);
    ++taken[static_cast<std::size_t>(n)];
    if (n <= observer.last) ordered = false;
    observer.last = n;
    return true;
  }

  const char* verdict(int pushed) const {
    if (!ordered) return "a newer item came before an older one";
    for (int n = 0; n < kItems; ++n) {
      const int count = taken[static_cast<std::size_t>(n)];
      if (n < pushed && count == 0) return "an item was lost";
      if (n < pushed && count > 1) return "an item came out twice";
      if (n >= pushed && count != 0) return "an item came out that was never pushed";
    }
    return nullptr;
  }
};

template <class Scenario>
void check_all(int threads) {
  const Stepper::Outcome outcome = Stepper::explore<Scenario>(threads);
  INFO("schedule ", outcome.schedule);
  const bool held = outcome.failure == nullptr;
  CHECK_MESSAGE(held, (held ? "" : outcome.failure));
  CHECK(outcome.schedules > 1);
}

struct DequeScenario {
  Ledger ledger;
  SteppedDeque deque;
  int next = 0;

  bool push() {
    if (!deque.push(ledger.items[static_cast<std::size_t>(next)])) return false;
    ++next;
    return true;
  }
  /// Empties the deque after the threads have ended.
  const char* finish() {
    Ledger::Observer rest;
    while (ledger.note(rest, deque.take())) {
    }
    return ledger.verdict(next);
  }
};

TEST_CASE("an owner that pushes and takes and a thief share every item") {
  struct Scenario : DequeScenario {
    Ledger::Observer owner, thief;
    void run(int thread) {
      if (thread == 1) {
        for (int i = 0; i < 3; ++i) ledger.note(thief, deque.steal());
        return;
      }
      push();
      push();
      ledger.note(owner, deque.take());
      push();
      ledger.note(owner, deque.take());
    }
    const char* check() { return finish(); }
  };
  check_all<Scenario>(2);
}

TEST_CASE("the last item goes to exactly one of the owner and two thieves") {
  struct Scenario : DequeScenario {
    Ledger::Observer observers[3];
    int got = 0;
    Scenario() { push(); }
    void run(int thread) {
      Runnable* item = thread == 0 ? deque.take() : deque.steal();
      if (ledger.note(observers[thread], item)) ++got;
    }
    const char* check() { return got != 1 ? "not exactly one got it" : finish(); }
  };
  const Stepper::Outcome outcome = Stepper::explore<Scenario>(3);
  INFO("schedule ", outcome.schedule);
  CHECK(outcome.failure == nullptr);
  CHECK(outcome.schedules >= 6);
}

TEST_CASE("a slot used again for a later item does not fool a slow thief") {
  struct Scenario : DequeScenario {
    Ledger::Observer owner, thief;
    Scenario() {
      for (int i = 0; i < 4; ++i) push();
    }
    void run(int thread) {
      if (thread == 1) {
        for (int i = 0; i < 2; ++i) ledger.note(thief, deque.steal());
        return;
      }
      for (int i = 0; i < 2; ++i) ledger.note(owner, deque.take());
      for (int i = 0; i < 3; ++i) push();  // wraps around; the third may find it full
    }
    const char* check() { return finish(); }
  };
  check_all<Scenario>(2);
}

TEST_CASE("a full deque refuses, and takes again once a thief made room") {
  struct Scenario : DequeScenario {
    Ledger::Observer thief;
    bool refused = false;
    bool stolen_first = false;
    Scenario() {
      for (int i = 0; i < 4; ++i) push();
    }
    void run(int thread) {
      if (thread == 1) {
        ledger.note(thief, deque.steal());
      } else {
        refused = !push();
      }
    }
    const char* check() {
      const bool full = deque.size() == 4;
      if (refused == full) return "refused although there was room, or took more than fits";
      return finish();
    }
  };
  const Stepper::Outcome outcome = Stepper::explore<Scenario>(2);
  INFO("schedule ", outcome.schedule);
  CHECK(outcome.failure == nullptr);
  CHECK(outcome.schedules >= 2);
}

TEST_CASE("overflow moves the older half and loses nothing to a thief") {
  struct Scenario : DequeScenario {
    Ledger::Observer thief;
    Queue<Runnable> overflow;
    Scenario() {
      for (int i = 0; i < 4; ++i) push();
    }
    void run(int thread) {
      if (thread == 1) {
        for (int i = 0; i < 3; ++i) ledger.note(thief, deque.steal());
      } else {
        for (int i = 0; i < 2; ++i) deque.push(ledger.items[static_cast<std::size_t>(next++)], overflow);
      }
    }
    const char* check() {
      Ledger::Observer rest;
      while (ledger.note(rest, overflow.pop_front())) {
      }
      return finish();
    }
  };
  check_all<Scenario>(2);
}

TEST_CASE("stealing half competes with the owner and loses nothing") {
  struct Scenario : DequeScenario {
    SteppedDeque thiefs;
    Ledger::Observer owner, thief;
    Scenario() {
      for (int i = 0; i < 3; ++i) push();
    }
    void run(int thread) {
      if (thread == 1) {
        for (int i = 0; i < 2; ++i) {
          ledger.note(thief, deque.steal_half_into(thiefs));
          ledger.note(thief, thiefs.take());
        }
      } else {
        for (int i = 0; i < 3; ++i) {
          ledger.note(owner, deque.take());
          push();
        }
      }
    }
    const char* check() {
      while (ledger.note(thief, thiefs.take())) {
      }
      return finish();
    }
  };
  check_all<Scenario>(2);
}

TEST_CASE("stealing half competes with overflow and loses nothing") {
  struct Scenario : DequeScenario {
    SteppedDeque thiefs;
    Ledger::Observer thief;
    Queue<Runnable> overflow;
    Scenario() {
      for (int i = 0; i < 4; ++i) push();
    }
    void run(int thread) {
      if (thread == 1) {
        ledger.note(thief, deque.steal_half_into(thiefs));
      } else {
        for (int i = 0; i < 2; ++i) deque.push(ledger.items[static_cast<std::size_t>(next++)], overflow);
      }
    }
    const char* check() {
      Ledger::Observer spilled;
      while (ledger.note(thief, thiefs.take())) {
      }
      while (ledger.note(spilled, overflow.pop_front())) {
      }
      return finish();
    }
  };
  check_all<Scenario>(2);
}

TEST_CASE("what a thief took by halves can be stolen from the thief") {
  struct Scenario : DequeScenario {
    SteppedDeque thiefs;
    Ledger::Observer owner, thief, second;
    Scenario() {
      for (int i = 0; i < 4; ++i) push();
    }
    void run(int thread) {
      switch (thread) {
        case 0: ledger.note(owner, deque.take()); break;
        case 1: ledger.note(thief, deque.steal_half_into(thiefs)); break;
        default: ledger.note(second, thiefs.steal()); break;
      }
    }
    const char* check() {
      Ledger::Observer rest;
      while (ledger.note(rest, thiefs.take())) {
      }
      return finish();
    }
  };
  check_all<Scenario>(3);
}

TEST_CASE("two thieves taking halves from one victim that goes on pushing lose nothing") {
  struct Scenario : DequeScenario {
    SteppedDeque stolen[2];
    Ledger::Observer thieves[2];
    Ledger::Observer owner;
    Scenario() {
      for (int i = 0; i < 4; ++i) push();
    }
    void run(int thread) {
      if (thread < 2) {
        ledger.note(thieves[thread], deque.steal_half_into(stolen[thread]));
      } else {
        push();
        ledger.note(owner, deque.take());
        push();
      }
    }
    const char* check() {
      for (int i = 0; i < 2; ++i) {
        while (ledger.note(thieves[i], stolen[i].take())) {
        }
      }
      return finish();
    }
  };
  check_all<Scenario>(3);
}

/// What the exhaustive tests above would be worth if they could not fail: the owner forgets to claim by exchange.
TEST_CASE("the stepper sees an owner that takes without claiming") {
  struct Scenario {
    test::SteppedAtomic<int> top;
    int got = 0;
    void run(int thread) {
      int seen = top.load();
      if (seen != 0) return;
      if (thread == 0) {
        top.store(1);  // the mistake
        ++got;
      } else if (top.compare_exchange_strong(seen, 1)) {
        ++got;
      }
    }
    const char* check() { return got != 1 ? "taken twice" : nullptr; }
  };
  CHECK(Stepper::explore<Scenario>(2).failure != nullptr);
}

TEST_CASE("half is rounded up, its oldest item handed out, and the thief's room respected") {
  Ledger ledger;
  StealingDeque<4> victim, mine;
  CHECK(victim.steal_half_into(mine) == nullptr);
  for (std::size_t i = 0; i < 3; ++i) REQUIRE(victim.push(ledger.items[i]));
  CHECK(victim.steal_half_into(mine) == &ledger.items[0]);
  CHECK(mine.take() == &ledger.items[1]);
  CHECK(mine.empty());
  CHECK(victim.size() == 1);
  for (std::size_t i = 4; i < 8; ++i) REQUIRE(mine.push(ledger.items[i]));
  REQUIRE(victim.push(ledger.items[8]));
  REQUIRE(victim.push(ledger.items[9]));
  CHECK(victim.steal_half_into(mine) == &ledger.items[2]);  // no room for the second of the half
  CHECK(victim.size() == 2);
  CHECK(mine.size() == 4);
  while (mine.take() != nullptr || victim.take() != nullptr) {
  }
}

struct CountedItem : Runnable {
  std::atomic<int> runs{0};
};

/// One owner that pushes all items, with overflow, and takes some; thieves that steal singly and by halves.
TEST_CASE("under load every item is taken exactly once") {
  constexpr std::size_t kItems = 100'000;
  constexpr int kThieves = 3;
  std::vector<CountedItem> items(kItems);
  StealingDeque<16> deque;
  std::atomic<std::size_t> left{kItems};
  const auto run = [&](Runnable* item) {
    if (item == nullptr) return false;
    static_cast<CountedItem*>(item)->runs.fetch_add(1, std::memory_order_relaxed);
    left.fetch_sub(1, std::memory_order_relaxed);
    return true;
  };
  std::vector<std::thread> thieves;
  for (int thief = 0; thief < kThieves; ++thief) {
    thieves.emplace_back([&, thief] {
      StealingDeque<16> mine;
      while (left.load(std::memory_order_relaxed) != 0) {
        const bool got = run(thief == 0 ? deque.steal() : deque.steal_half_into(mine));
        while (run(mine.take())) {
        }
        if (!got) std::this_thread::yield();
      }
    });
  }
  Queue<Runnable> overflow;
  for (std::size_t i = 0; i < kItems; ++i) {
    deque.push(items[i], overflow);
    if (i % 3 == 0) run(deque.take());
    if (i % 64 == 0) {
      while (run(overflow.pop_front())) {
      }
    }
  }
  while (run(overflow.pop_front()) || run(deque.take())) {
  }
  for (std::thread& thief : thieves) thief.join();
  CHECK(deque.empty());
  std::size_t wrong = 0;
  for (const CountedItem& item : items) wrong += item.runs.load() != 1 ? 1u : 0u;
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace evlua
