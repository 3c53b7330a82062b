// Goal: each lock-free structure keeps its order and loses, doubles and invents nothing.
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/lockfree/mpmc_queue.h"
#include "core/lockfree/mpsc_queue.h"
#include "core/lockfree/stack.h"
#include "tests/support/doctest.h"
#include "tests/support/stepper.h"
#include "tests/support/threads.h"

namespace evlua {
namespace {

using test::on_threads;

struct Letter : MpscNode {
  int sender = 0;
  int number = 0;
};

TEST_CASE("an MPSC queue is empty, then first in first out, then empty again") {
  MpscQueue<Letter> queue;
  Letter letters[3];
  for (int round = 0; round < 3; ++round) {
    CHECK(queue.empty());
    CHECK(queue.try_pop() == nullptr);
    CHECK(queue.pop() == nullptr);
    for (Letter& letter : letters) {
      queue.enqueue(letter);
      CHECK_FALSE(queue.empty());
    }
    CHECK(queue.try_pop() == &letters[0]);
    queue.enqueue(letters[0]);
    CHECK(queue.try_pop() == &letters[1]);
    CHECK(queue.try_pop() == &letters[2]);
    CHECK_FALSE(queue.empty());
    CHECK(queue.pop() == &letters[0]);
  }
}

TEST_CASE("no interleaving of two producers and the consumer of an MPSC queue loses or doubles an item") {
  using Node = BasicMpscNode<test::SteppedAtomics>;
  struct Scenario {
    MpscQueue<Node, test::SteppedAtomics> queue;
    std::array<Node, 3> nodes;
    std::array<int, 3> popped{};
    int count = 0;
    bool ordered = true;  // producer 0 enqueues 0, then 2

    void note(Node* node) {
      if (node == nullptr) return;
      const auto n = static_cast<std::size_t>(node - nodes.data());
      if (n == 2 && popped[0] == 0) ordered = false;
      ++popped[n];
      ++count;
    }
    void run(int thread) {
      if (thread == 2) {
        for (int i = 0; i < 3; ++i) note(queue.try_pop());
      } else {
        for (auto n = static_cast<std::size_t>(thread); n < nodes.size(); n += 2) queue.enqueue(nodes[n]);
      }
    }
    const char* check() {
      for (int i = count; i < 3; ++i) {
        if (queue.empty()) return "empty although an item is missing";
        note(queue.try_pop());
      }
      if (!ordered) return "one producer's items changed places";
      if (popped != std::array<int, 3>{1, 1, 1}) return "an item was lost or doubled";
      return queue.empty() && queue.try_pop() == nullptr ? nullptr : "not empty in the end";
    }
  };
  const auto outcome = test::Stepper::explore<Scenario>(3);
  INFO("schedule ", outcome.schedule);
  CHECK(outcome.failure == nullptr);
  CHECK(outcome.schedules > 100);
}

TEST_CASE("many producers' items reach the consumer of an MPSC queue in each producer's order") {
  constexpr int kProducers = 3;
  constexpr int kLetters = 30'000;
  MpscQueue<Letter> queue;
  std::vector<std::vector<std::unique_ptr<Letter>>> letters(kProducers);
  for (auto& mine : letters) {
    for (int n = 0; n < kLetters; ++n) mine.push_back(std::make_unique<Letter>());
  }
  int misplaced = 0;
  on_threads(kProducers + 1, [&](int thread) {
    if (thread < kProducers) {
      int number = 0;
      for (auto& letter : letters[static_cast<std::size_t>(thread)]) {
        letter->sender = thread;
        letter->number = number++;
        queue.enqueue(*letter);
      }
      return;
    }
    std::array<int, kProducers> next{};
    for (int received = 0; received < kProducers * kLetters;) {
      Letter* letter = received % 2 == 0 ? queue.try_pop() : queue.pop();
      if (letter == nullptr) {
        std::this_thread::yield();
        continue;
      }
      ++received;
      const auto sender = static_cast<std::size_t>(letter->sender);
      const auto number = static_cast<std::size_t>(letter->number);
      misplaced += letter->number != next[sender]++ ? 1 : 0;
      letters[sender][number].reset();  // a popped node may be freed at once
    }
  });
  CHECK(misplaced == 0);
  CHECK(queue.empty());
}

TEST_CASE("an MPMC queue is bounded, first in first out, and goes around") {
  MpmcQueue<std::string> queue(4);
  CHECK(queue.capacity() == 4);
  for (int round = 0; round < 5; ++round) {
    CHECK_FALSE(queue.try_pop().has_value());
    for (int n = 0; n < 4; ++n) CHECK(queue.try_push(std::to_string(n) + " and some more, to be on the heap"));
    std::string refused = "a fifth";
    CHECK_FALSE(queue.try_push(std::move(refused)));
    CHECK(refused == "a fifth");  // NOLINT: a refused item is untouched
    CHECK(queue.size_hint() == 4);
    CHECK(queue.try_pop().value()[0] == '0');
    CHECK(queue.try_push(std::move(refused)));
    for (const char first : {'1', '2', '3', 'a'}) CHECK(queue.try_pop().value()[0] == first);
  }
}

TEST_CASE("items left in an MPMC queue or a stack are destroyed with it") {
  const auto item = std::make_shared<int>(7);
  {
    MpmcQueue<std::shared_ptr<int>> queue(4);
    LockFreeStack<std::shared_ptr<int>> stack(4);
    for (int n = 0; n < 3; ++n) CHECK((queue.try_push(item) && stack.try_push(item)));
    CHECK(queue.try_pop() == item);
    CHECK(item.use_count() == 6);
  }
  CHECK(item.use_count() == 1);
}

/// Several threads put in the numbers 0 ... n-1 and take them out; each number must come out once.
template <class TryPush, class TryPop>
void pass_through(TryPush try_push, TryPop try_pop) {
  constexpr int kSide = 2;
  constexpr int kItems = 40'000;
  std::vector<std::atomic<int>> seen(kItems);
  std::atomic<int> taken{0};
  on_threads(2 * kSide, [&](int thread) {
    if (thread < kSide) {
      for (int n = thread; n < kItems; n += kSide) {
        while (!try_push(std::make_unique<int>(n))) std::this_thread::yield();
      }
      return;
    }
    while (taken.load() < kItems) {
      const std::unique_ptr<int> item = try_pop();
      if (item == nullptr) {
        std::this_thread::yield();
        continue;
      }
      seen[static_cast<std::size_t>(*item)].fetch_add(1);
      taken.fetch_add(1);
    }
  });
  int wrong = 0;
  for (const std::atomic<int>& count : seen) wrong += count.load() != 1 ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE("under load every item passes an MPMC queue once") {
  MpmcQueue<std::unique_ptr<int>> queue(16);
  pass_through([&](std::unique_ptr<int> item) { return queue.try_push(std::move(item)); },
               [&] { return queue.try_pop().value_or(nullptr); });
}

TEST_CASE("one producer's items leave an MPMC queue in order, whoever takes them") {
  constexpr int kItems = 50'000;
  MpmcQueue<int> queue(8);
  std::atomic<int> taken{0};
  std::atomic<int> misplaced{0};
  on_threads(3, [&](int thread) {
    if (thread == 0) {
      for (int n = 0; n < kItems; ++n) {
        while (!queue.try_push(n)) std::this_thread::yield();
      }
      return;
    }
    int last = -1;
    while (taken.load() < kItems) {
      const std::optional<int> item = queue.try_pop();
      if (!item) {
        std::this_thread::yield();
        continue;
      }
      taken.fetch_add(1);
      if (*item <= last) misplaced.fetch_add(1);
      last = *item;
    }
  });
  CHECK(misplaced.load() == 0);
}

TEST_CASE("a stack is last in first out and bounded") {
  LockFreeStack<std::string> stack(3);
  CHECK(stack.empty());
  CHECK_FALSE(stack.try_pop().has_value());
  for (const char* text : {"one", "two", "three"}) CHECK(stack.try_push(text));
  std::string refused = "four";
  CHECK_FALSE(stack.try_push(std::move(refused)));
  CHECK(refused == "four");  // NOLINT: a refused item is untouched
  for (const char* text : {"three", "two", "one"}) CHECK(stack.try_pop().value() == text);
  CHECK(stack.empty());
}

TEST_CASE("under load every item passes a stack once") {
  LockFreeStack<std::unique_ptr<int>> stack(8);
  pass_through([&](std::unique_ptr<int> item) { return stack.try_push(std::move(item)); },
               [&] { return stack.try_pop().value_or(nullptr); });
}

TEST_CASE("no interleaving of pops and pushes confuses an index stack") {
  // ABA: one thread is about to pop 0 with 1 below it, while the other takes both and puts 0 back.
  struct Scenario {
    BasicIndexStack<test::SteppedAtomics> stack{3};
    std::array<int, 3> owned{};
    Scenario() {
      for (std::uint32_t index = 3; index-- > 0;) stack.push(index);
    }
    void run(int thread) {
      const std::uint32_t first = stack.pop();
      ++owned[first];
      if (thread == 0) return;
      const std::uint32_t second = stack.pop();
      if (second != IndexStack::kNone) ++owned[second];
      --owned[first];
      stack.push(first);
    }
    const char* check() {
      for (std::uint32_t index = stack.pop(); index != IndexStack::kNone; index = stack.pop()) ++owned[index];
      return owned == std::array<int, 3>{1, 1, 1} ? nullptr : "an index was lost or handed out twice";
    }
  };
  const auto outcome = test::Stepper::explore<Scenario>(2);
  INFO("schedule ", outcome.schedule);
  CHECK(outcome.failure == nullptr);
  CHECK(outcome.schedules > 10);
}

/// The classic ABA: threads pop and push the same few indices as fast as they can. A confused head would hand one index
/// to two threads, or lose one.
TEST_CASE("indices taken from an index stack belong to one thread at a time") {
  constexpr std::uint32_t kIndices = 3;
  IndexStack stack(kIndices);
  for (std::uint32_t index = 0; index < kIndices; ++index) stack.push(index);
  std::array<std::atomic<int>, kIndices> owners{};
  std::atomic<int> shared{0};
  on_threads(4, [&](int) {
    for (int n = 0; n < 200'000; ++n) {
      const std::uint32_t index = stack.pop();
      if (index == IndexStack::kNone) continue;
      if (owners[index].fetch_add(1) != 0) shared.fetch_add(1);
      owners[index].fetch_sub(1);
      stack.push(index);
    }
  });
  CHECK(shared.load() == 0);
  std::array<int, kIndices> found{};
  for (std::uint32_t index = stack.pop(); index != IndexStack::kNone; index = stack.pop()) ++found[index];
  CHECK(found == std::array<int, kIndices>{1, 1, 1});
}

}  // namespace
}  // namespace evlua
