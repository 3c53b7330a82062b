// Goal: work is never left lying while a worker sleeps and nobody is about to look. The protocol of core/idle.h is run
// in every interleaving, with deque, inboxes and idle word stepped; then it is broken in each place that matters, to
// see that these tests would notice.
#include "core/idle.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "core/deque.h"
#include "core/inbox.h"
#include "core/lockfree/futex.h"
#include "tests/support/doctest.h"
#include "tests/support/stepper.h"

namespace evlua {
namespace {

using test::Stepper;

enum class Mistake {
  none,
  no_recheck,
  only_last_searcher_rechecks,
  asks_before_pushing,
  marks_after_recheck,
  searcher_wakes_no_successor
};

/// Workers that look for work and park, and pushers that are not workers, each with its own deque.
template <int Workers, int Pushers, int Items, Mistake mistake, int Rounds = 2>
struct Model {
  using Deque = StealingDeque<2, test::SteppedAtomics>;
  using Box = BasicInbox<test::SteppedAtomics>;

  BasicIdleState<test::SteppedAtomics> idle{Workers};
  std::array<Box, Workers> inboxes;
  std::array<Deque, Pushers> deques;
  std::array<std::array<Runnable, Items>, Pushers> items;
  std::array<Runnable, Pushers> messages;

  enum class End { will_look, busy, asleep };
  std::array<End, Workers> ends{};
  std::array<bool, Workers> searching{};
  bool posts_message = false;
  bool last_worker_sleeps = false;

  void put_last_worker_to_sleep() {
    last_worker_sleeps = inboxes[Workers - 1].try_mark();
    idle.park(false);
  }

  bool any_work() {
    for (Deque& deque : deques) {
      if (!deque.empty()) return true;
    }
    return false;
  }

  void wake_one() {
    for (Box& inbox : inboxes) {
      if (inbox.unmark()) {
        idle.unparked_by_wake();
        return;
      }
    }
  }

  Runnable* look() {
    for (Deque& deque : deques) {
      if (Runnable* item = deque.steal()) return item;
    }
    return nullptr;
  }

  /// True when the worker stays up.
  bool park(std::size_t self) {
    const bool late = mistake == Mistake::marks_after_recheck;
    if (!late && !inboxes[self].try_mark()) return true;
    bool rechecks = mistake != Mistake::no_recheck;
    if (mistake == Mistake::only_last_searcher_rechecks) rechecks = searching[self] && idle.searching() <= 1;
    idle.park(searching[self]);
    searching[self] = false;
    const bool found = rechecks && any_work();
    if (late && !found) static_cast<void>(inboxes[self].try_mark());
    if (!found && inboxes[self].marked()) return false;  // sleeps, until its mark is cleared
    if (late && found) {
      idle.unpark_self();
    } else if (inboxes[self].unmark()) {
      idle.unpark_self();
    } else {
      searching[self] = true;
    }
    return true;
  }

  void work(std::size_t self) {
    if (last_worker_sleeps && self == Workers - 1) {
      if (inboxes[self].marked()) {
        ends[self] = End::asleep;
        return;
      }
      searching[self] = true;
    }
    for (int round = 0; round < Rounds; ++round) {
      if (!searching[self]) searching[self] = idle.try_start_search();
      if (searching[self] && look() != nullptr) {
        searching[self] = false;
        const bool last = idle.end_search();
        if (mistake != Mistake::searcher_wakes_no_successor && last && any_work() && idle.should_wake()) wake_one();
        ends[self] = End::busy;
        return;
      }
      if (!park(self)) {
        ends[self] = End::asleep;
        return;
      }
    }
    ends[self] = End::will_look;
  }

  void push(std::size_t self) {
    for (Runnable& item : items[self]) {
      const bool asked = mistake == Mistake::asks_before_pushing && idle.should_wake();
      static_cast<void>(deques[self].push(item));
      if (mistake == Mistake::asks_before_pushing ? asked : idle.should_wake()) wake_one();
    }
    if (posts_message && inboxes[0].post(messages[self])) idle.unparked_by_wake();
  }

  void run(int thread) {
    const auto index = static_cast<std::size_t>(thread);
    index < Workers ? work(index) : push(index - Workers);
  }

  const char* check() {
    int parked = 0;
    int looking = 0;
    bool someone_will_look = false;
    for (std::size_t i = 0; i < Workers; ++i) {
      parked += inboxes[i].marked() ? 1 : 0;
      const bool woken = ends[i] == End::asleep && !inboxes[i].marked();
      looking += searching[i] || woken ? 1 : 0;
      someone_will_look = someone_will_look || woken || ends[i] == End::will_look;
    }
    if (any_work() && parked > 0 && !someone_will_look) return "work lies waiting beside a sleeping worker";
    if (idle.parked() != parked) return "parked workers miscounted";
    if (idle.searching() != looking) return "searching workers miscounted";
    return nullptr;
  }
};

template <class Scenario>
void check_holds(int threads, std::uint64_t schedules_min) {
  const Stepper::Outcome outcome = Stepper::explore<Scenario>(threads);
  INFO("schedule ", outcome.schedule);
  const bool held = outcome.failure == nullptr;
  CHECK_MESSAGE(held, (held ? "" : outcome.failure));
  CHECK(outcome.schedules >= schedules_min);
}

TEST_CASE("one worker never sleeps over a pusher's work") { check_holds<Model<1, 1, 2, Mistake::none>>(2, 50); }

TEST_CASE("one worker never sleeps over two pushers' work") { check_holds<Model<1, 2, 1, Mistake::none>>(3, 50); }

TEST_CASE("of two workers none sleeps beside work that nobody will look for") {
  check_holds<Model<2, 1, 1, Mistake::none, 1>>(3, 50);
}

TEST_CASE("a worker and one that sleeps at first look for all the work between them") {
  struct Scenario : Model<2, 1, 2, Mistake::none> {
    Scenario() { put_last_worker_to_sleep(); }
  };
  check_holds<Scenario>(3, 50);
}

TEST_CASE("a searcher that finds work sees to it that the rest is looked for") {
  check_holds<Model<2, 1, 2, Mistake::none, 1>>(3, 50);
}

TEST_CASE("a message that wakes a worker counts like work that does") {
  struct Scenario : Model<1, 1, 1, Mistake::none> {
    Scenario() { posts_message = true; }
  };
  check_holds<Scenario>(2, 10);
}

TEST_CASE("mistakes in the protocol are noticed") {
  CHECK(Stepper::explore<Model<1, 1, 1, Mistake::no_recheck>>(2).failure != nullptr);
  CHECK(Stepper::explore<Model<1, 1, 1, Mistake::asks_before_pushing>>(2).failure != nullptr);
  CHECK(Stepper::explore<Model<1, 1, 1, Mistake::marks_after_recheck>>(2).failure != nullptr);
  CHECK(Stepper::explore<Model<2, 1, 2, Mistake::only_last_searcher_rechecks, 1>>(3).failure != nullptr);
  CHECK(Stepper::explore<Model<2, 1, 2, Mistake::searcher_wakes_no_successor>>(3).failure != nullptr);
}

TEST_CASE("at most half of the workers search, rounded up") {
  IdleState one(1);
  CHECK(one.try_start_search());
  CHECK_FALSE(one.try_start_search());
  IdleState five(5);
  for (int i = 0; i < 3; ++i) CHECK(five.try_start_search());
  CHECK_FALSE(five.try_start_search());
  CHECK_FALSE(five.end_search());
  CHECK_FALSE(five.end_search());
  CHECK(five.end_search());
}

TEST_CASE("a wake is wanted when somebody is parked and nobody searches") {
  IdleState idle(3);
  CHECK_FALSE(idle.should_wake());
  idle.park(false);
  CHECK(idle.should_wake());
  REQUIRE(idle.try_start_search());
  CHECK_FALSE(idle.should_wake());
  idle.park(true);
  CHECK(idle.should_wake());
  CHECK(idle.parked() == 2);
  idle.unparked_by_wake();
  CHECK_FALSE(idle.should_wake());
  CHECK(idle.searching() == 1);
  CHECK(idle.end_search());
  CHECK(idle.should_wake());
  idle.unpark_self();
  CHECK(idle.parked() == 0);
  CHECK_FALSE(idle.should_wake());
}

TEST_CASE("a woken worker that is faster than its waker's counting leaves the word right") {
  IdleState idle(1);
  idle.park(false);
  CHECK(idle.end_search());  // woken, not counted yet
  CHECK(idle.searching() == -1);
  idle.park(false);
  CHECK(idle.parked() == 2);
  CHECK(idle.should_wake());
  idle.unparked_by_wake();
  CHECK(idle.searching() == 0);
  CHECK(idle.parked() == 1);
}

/// Workers that sleep on a futex of their own; the test thread pushes. A lost wake-up hangs the test.
class SleepyCrew {
 public:
  static constexpr std::size_t kWorkers = 3;

  explicit SleepyCrew(std::uint32_t items) : left_(items) {
    for (std::size_t i = 0; i < kWorkers; ++i) threads_.emplace_back([this, i] { work(i); });
  }
  ~SleepyCrew() {
    for (std::thread& thread : threads_) thread.join();
  }

  void push(Runnable& item) {
    while (!deque_.push(item)) std::this_thread::yield();
    if (idle_.should_wake()) wake_one();
  }

  std::uint32_t left() const { return left_.load(); }
  void await_end() {
    for (std::uint32_t left = left_.load(); left != 0; left = left_.load()) futex_wait(left_, left);
  }

 private:
  struct alignas(64) Bed {
    Inbox inbox;
    std::atomic<std::uint32_t> wakes{0};
  };

  void wake_one() {
    for (Bed& bed : beds_) {
      if (!bed.inbox.unmark()) continue;
      idle_.unparked_by_wake();
      wake(bed);
      return;
    }
  }

  static void wake(Bed& bed) {
    bed.wakes.fetch_add(1);
    futex_wake_one(bed.wakes);
  }

  /// The last item ends it all: everybody is sent home.
  void finish_one() {
    if (left_.fetch_sub(1) != 1) return;
    futex_wake_all(left_);
    for (Bed& bed : beds_) wake(bed);
  }

  void work(std::size_t self) {
    Bed& bed = beds_[self];
    bool searching = false;
    while (left_.load() != 0) {
      const std::uint32_t wakes = bed.wakes.load();
      searching = searching || idle_.try_start_search();
      if (searching && deque_.steal() != nullptr) {
        searching = false;
        if (idle_.end_search() && !deque_.empty() && idle_.should_wake()) wake_one();
        finish_one();
        continue;
      }
      if (!bed.inbox.try_mark()) continue;
      idle_.park(std::exchange(searching, false));
      if (deque_.empty()) {
        while (bed.inbox.marked() && bed.wakes.load() == wakes) futex_wait(bed.wakes, wakes);
      }
      if (bed.inbox.unmark()) {
        idle_.unpark_self();
      } else {
        searching = true;
      }
    }
  }

  std::atomic<std::uint32_t> left_;
  IdleState idle_{kWorkers};
  StealingDeque<8> deque_;
  std::array<Bed, kWorkers> beds_;
  std::vector<std::thread> threads_;
};

TEST_CASE("under load workers that sleep at every chance do all the work") {
  constexpr std::uint32_t kItems = 20'000;
  std::vector<Runnable> items(kItems);
  SleepyCrew crew(kItems);
  for (std::uint32_t i = 0; i < kItems; ++i) {
    crew.push(items[i]);
    // Let the crew run dry now and then, so that it sleeps.
    if (i % 4 != 0) continue;
    while (crew.left() > kItems - i) std::this_thread::yield();
  }
  crew.await_end();
  CHECK(crew.left() == 0);
}

}  // namespace
}  // namespace evlua
