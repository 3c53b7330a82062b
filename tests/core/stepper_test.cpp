// Goal: the stepper visits every interleaving, each once, and so finds errors that need a particular one.
#include "tests/support/stepper.h"

#include <cstdint>
#include <random>
#include <set>
#include <string>

#include "tests/support/doctest.h"

namespace evlua::test {
namespace {

std::set<std::string> orders;  // what the scenarios below have seen

TEST_CASE("two threads with two writes each to one word interleave in six ways") {
  struct Scenario {
    SteppedAtomic<int> word;
    std::string order;
    void run(int thread) {
      for (int i = 0; i < 2; ++i) {
        word.store(thread);
        order += static_cast<char>('a' + thread);
      }
    }
    const char* check() {
      orders.insert(order);
      return nullptr;
    }
  };
  orders.clear();
  const auto outcome = Stepper::explore<Scenario>(2);
  CHECK(outcome.schedules == 6);
  CHECK(orders == std::set<std::string>{"aabb", "abab", "abba", "baab", "baba", "bbaa"});
}

TEST_CASE("three threads with one write each interleave in six ways") {
  struct Scenario {
    SteppedAtomic<int> word;
    void run(int thread) { word.store(thread); }
    const char* check() { return nullptr; }
  };
  CHECK(Stepper::explore<Scenario>(3).schedules == 6);
}

TEST_CASE("steps on different words, and reads of one, are not tried in every order") {
  struct Scenario {
    SteppedAtomic<int> common;
    SteppedAtomic<int> own[2];
    void run(int thread) {
      for (int i = 0; i < 5; ++i) own[thread].store(common.load());
    }
    const char* check() { return nullptr; }
  };
  CHECK(Stepper::explore<Scenario>(2).schedules == 1);
}

TEST_CASE("every outcome of store buffering's sequentially consistent form is seen") {
  struct Scenario {
    SteppedAtomic<int> words[2];
    int seen[2] = {0, 0};
    void run(int thread) {
      words[thread].store(1);
      seen[thread] = words[1 - thread].load();
    }
    const char* check() {
      orders.insert(std::to_string(seen[0]) + std::to_string(seen[1]));
      return nullptr;
    }
  };
  orders.clear();
  CHECK(Stepper::explore<Scenario>(2).failure == nullptr);
  CHECK(orders == std::set<std::string>{"01", "10", "11"});
}

TEST_CASE("a lost update that needs one particular preemption is found, with its schedule") {
  struct Scenario {
    SteppedAtomic<int> counter;
    void run(int) {
      for (int i = 0; i < 3; ++i) counter.store(counter.load() + 1);
    }
    const char* check() { return counter.load() == 2 ? "two increments only" : nullptr; }
  };
  const auto outcome = Stepper::explore<Scenario>(2);
  REQUIRE(outcome.failure != nullptr);
  CHECK(outcome.schedule.size() == 12);
}

/// A program of a few random accesses per thread; what each access saw is the outcome.
struct RandomProgram {
  static inline unsigned seed = 0;

  SteppedAtomic<int> words[2];
  std::string seen[3];

  void run(int thread) {
    std::minstd_rand random(seed * 4 + static_cast<unsigned>(thread) + 1);
    random.discard(10);
    for (int i = 0; i < 3; ++i) {
      SteppedAtomic<int>& word = words[random() % 2];
      int value = 0;
      switch (random() % 4) {
        case 0: word.store(thread + 1); break;
        case 1: value = word.load(); break;
        case 2: value = word.fetch_add(10); break;
        default: word.compare_exchange_strong(value, thread + 5); break;
      }
      seen[thread] += std::to_string(value) + ',';
    }
  }
  const char* check() {
    orders.insert(seen[0] + seen[1] + seen[2] + std::to_string(words[0].load()) + ',' +
                  std::to_string(words[1].load()));
    return nullptr;
  }
};

TEST_CASE("leaving out orders of independent steps leaves out no outcome") {
  std::uint64_t all = 0;
  std::uint64_t tried = 0;
  for (RandomProgram::seed = 0; RandomProgram::seed < 40; ++RandomProgram::seed) {
    INFO("seed ", RandomProgram::seed);
    orders.clear();
    all += Stepper::explore<RandomProgram>(3, false).schedules;
    const std::set<std::string> of_all = orders;
    orders.clear();
    tried += Stepper::explore<RandomProgram>(3).schedules;
    CHECK(orders == of_all);
  }
  CHECK(all == 40 * 1680);  // 9! / (3!)^3 each
  CHECK(tried < all / 4);
}

}  // namespace
}  // namespace evlua::test
