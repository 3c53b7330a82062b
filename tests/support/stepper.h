// Runs a small lock-free scenario in every interleaving.
//
// The structure under test is built from SteppedAtomics (see core/atomics.h). Its threads are fibers of one thread;
// before each atomic access a fiber announces the access and hands control to the stepper, which decides who goes on.
// Depth-first search over these decisions visits all interleavings, up to the order of steps that do not touch the same
// word, or only read it (sleep sets). The atomics are thereby sequentially consistent: weaker orders are for
// ThreadSanitizer and for reasoning.
//
// A scenario is a class, made anew for each schedule:
//   struct Scenario {
//     void run(int thread);   // the body of each thread; must not wait for another
//     const char* check();    // after all have ended: null, or what is wrong
//   };
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/check.h"
#include "tests/support/context.h"

namespace evlua::test {

class Stepper {
 public:
  static constexpr int kThreadsMax = 4;

  struct Outcome {
    std::uint64_t schedules = 0;    ///< complete and distinct
    const char* failure = nullptr;  ///< of the first failing schedule
    std::string schedule;           ///< that schedule: which thread took each step
  };

  /// Explores `Scenario` with so many threads until the first failure or to the end. Without `reduced`, the orders of
  /// independent steps are tried too: to test the stepper itself.
  template <class Scenario>
  static Outcome explore(int threads, bool reduced = true) {
    EVLUA_CHECK(threads >= 1 && threads <= kThreadsMax);
    Stepper stepper(threads);
    stepper.reduced_ = reduced;
    std::unique_ptr<Scenario> scenario;
    stepper.body_ = [](void* self, int thread) { (*static_cast<std::unique_ptr<Scenario>*>(self))->run(thread); };
    stepper.body_argument_ = &scenario;
    Outcome outcome;
    do {
      scenario = std::make_unique<Scenario>();
      if (!stepper.run_once()) continue;  // the same as an earlier schedule
      ++outcome.schedules;
      outcome.failure = scenario->check();
      if (outcome.failure != nullptr) outcome.schedule = stepper.schedule();
    } while (outcome.failure == nullptr && stepper.next_schedule());
    return outcome;
  }

  /// Called before each atomic access. Does nothing outside of a scenario's threads.
  static void step(const void* address, bool writes) noexcept {
    if (active_ != nullptr && active_->running_ >= 0) active_->pause({address, writes});
  }

  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

 private:
  using Mask = std::uint8_t;

  static constexpr std::size_t kStackBytes = 256 * 1024;

  struct Access {
    const void* address = nullptr;
    bool writes = false;

    bool independent_of(const Access& other) const noexcept {
      return address != other.address || (!writes && !other.writes);
    }
  };

  struct Fiber {
    Fiber() : stack(kStackBytes, &Stepper::enter) {}
    Context stack;
    Access next;
  };

  /// One decision: who went on, and who need not be tried here (the sleep set).
  struct Decision {
    std::int8_t chosen;
    Mask candidates;  // not ended
    Mask asleep;
  };

  static constexpr std::size_t kStepsMax = 10'000;

  explicit Stepper(int threads) : threads_(threads), fibers_(static_cast<std::size_t>(threads)) {}

  static void enter() { active_->fiber_main(); }
  [[noreturn]] void fiber_main();
  bool run_once();
  bool next_schedule();
  void pause(Access access) noexcept;
  int decide() noexcept;
  void go_on_with(int chosen, Mask asleep) noexcept;
  void go_to(int thread) noexcept;
  Fiber& fiber(int thread) noexcept { return fibers_[static_cast<std::size_t>(thread)]; }
  Context& context(int thread) noexcept { return thread < 0 ? main_ : fiber(thread).stack; }
  static Mask bit(int thread) noexcept { return static_cast<Mask>(1u << thread); }
  static int lowest(Mask mask) noexcept { return std::countr_zero(mask); }
  std::string schedule() const;

  static inline thread_local Stepper* active_ = nullptr;

  const int threads_;
  void (*body_)(void*, int) = nullptr;
  void* body_argument_ = nullptr;
  Context main_;
  std::vector<Fiber> fibers_;
  std::vector<Decision> decisions_;
  std::size_t depth_ = 0;
  Mask alive_ = 0;
  Mask asleep_ = 0;
  int running_ = -1;       // -1: the exploring code itself
  bool starting_ = false;  // fibers run up to their first access
  bool redundant_ = false;
  bool reduced_ = true;
};

inline void Stepper::go_to(int thread) noexcept {
  Context& from = context(running_);
  running_ = thread;
  Context::switch_to(from, context(thread));
}

/// Never returns: a fiber serves every schedule, one turn of the loop each.
inline void Stepper::fiber_main() {
  Context::entered(main_);
  const int self = running_;
  for (;;) {
    body_(body_argument_, self);
    alive_ = static_cast<Mask>(alive_ & ~bit(self));
    go_to(starting_ || alive_ == 0 ? -1 : decide());
  }
}

inline void Stepper::pause(Access access) noexcept {
  fiber(running_).next = access;
  const int next = starting_ ? -1 : decide();
  if (next != running_) go_to(next);
}

/// Runs one schedule: the decisions made so far, then the first that offers itself. False when it turned out to differ
/// from an earlier schedule only in the order of independent steps.
inline bool Stepper::run_once() {
  active_ = this;
  depth_ = 0;
  asleep_ = 0;
  redundant_ = false;
  alive_ = static_cast<Mask>((1u << threads_) - 1);
  starting_ = true;  // what precedes the first access concerns nobody else
  for (int thread = 0; thread < threads_; ++thread) go_to(thread);
  starting_ = false;
  if (alive_ != 0) go_to(decide());
  active_ = nullptr;
  return !redundant_;
}

/// Who takes the next step.
inline int Stepper::decide() noexcept {
  if (redundant_) return lowest(alive_);
  if (depth_ == decisions_.size()) {
    const auto available = static_cast<Mask>(alive_ & ~asleep_);
    if (available == 0) {
      redundant_ = true;  // every way on from here has been seen; let the threads end
      return lowest(alive_);
    }
    EVLUA_CHECK(depth_ < kStepsMax);
    const bool stay = running_ >= 0 && (available & bit(running_)) != 0;
    decisions_.push_back({static_cast<std::int8_t>(stay ? running_ : lowest(available)), alive_, asleep_});
  }
  const Decision& decision = decisions_[depth_++];
  EVLUA_CHECK(decision.candidates == alive_);  // else the scenario is not deterministic
  go_on_with(decision.chosen, decision.asleep);
  return decision.chosen;
}

/// A thread stays asleep while the steps taken do not touch what its next step touches.
inline void Stepper::go_on_with(int chosen, Mask asleep) noexcept {
  asleep_ = 0;
  const Access& taken = fiber(chosen).next;
  for (int thread = 0; thread < threads_; ++thread) {
    const bool was_asleep = reduced_ && (asleep & bit(thread)) != 0;
    if (was_asleep && fiber(thread).next.independent_of(taken)) asleep_ = static_cast<Mask>(asleep_ | bit(thread));
  }
}

/// Turns to the next untried branch. False when there is none left.
inline bool Stepper::next_schedule() {
  while (!decisions_.empty()) {
    Decision& last = decisions_.back();
    last.asleep = static_cast<Mask>(last.asleep | bit(last.chosen));
    const auto available = static_cast<Mask>(last.candidates & ~last.asleep);
    if (available != 0) {
      last.chosen = static_cast<std::int8_t>(lowest(available));
      return true;
    }
    decisions_.pop_back();
  }
  return false;
}

inline std::string Stepper::schedule() const {
  std::string text;
  for (const Decision& decision : decisions_) text += static_cast<char>('0' + decision.chosen);
  return text;
}

/// Stands in for std::atomic. The memory orders are accepted and ignored.
template <class T>
class SteppedAtomic {
 public:
  constexpr SteppedAtomic() noexcept = default;
  constexpr SteppedAtomic(T value) noexcept : value_(value) {}  // NOLINT: as std::atomic
  SteppedAtomic(const SteppedAtomic&) = delete;
  SteppedAtomic& operator=(const SteppedAtomic&) = delete;

  T load(std::memory_order = std::memory_order_seq_cst) const noexcept {
    Stepper::step(this, false);
    return value_;
  }
  void store(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
    Stepper::step(this, true);
    value_ = value;
  }
  T exchange(T value, std::memory_order = std::memory_order_seq_cst) noexcept { return change(value); }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) noexcept {
    Stepper::step(this, true);
    if (value_ == expected) {
      value_ = desired;
      return true;
    }
    expected = value_;
    return false;
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order = std::memory_order_seq_cst,
                             std::memory_order = std::memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, desired);
  }
  T fetch_add(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    Stepper::step(this, true);
    const T before = value_;
    value_ = static_cast<T>(value_ + by);
    return before;
  }
  T fetch_sub(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    Stepper::step(this, true);
    const T before = value_;
    value_ = static_cast<T>(value_ - by);
    return before;
  }

 private:
  T change(T value) noexcept {
    Stepper::step(this, true);
    const T before = value_;
    value_ = value;
    return before;
  }

  T value_{};
};

struct SteppedAtomics {
  template <class T>
  using Atomic = SteppedAtomic<T>;
};

}  // namespace evlua::test
