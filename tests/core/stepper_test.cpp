// Goal: the stepper visits every interleaving, each once, and so finds errors that need a particular one.
#include "tests/support/stepper.h"

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

}  // namespace
}  // namespace evlua::test
