// Event: lets coroutines wait until something has happened, with a deadline.
#pragma once

#include <cerrno>

#include "core/intrusive.h"
#include "core/io_await.h"
#include "core/lockfree/spin_lock.h"

namespace evlua {

/// Starts unset; once set it stays set until reset. Any number of waiters, any thread may set.
/// The event must outlive its waiters and the calls of `set` (keep it in shared ownership where that is not plain).
class Event {
 public:
  /// Wakes all waiters, for good: a reset that follows at once does not take it back. [any thread]
  void set() noexcept {
    lock_.lock();
    set_ = true;
    // A waiter is a sleep; waking it is cancelling the sleep. Under the lock: it cannot end before it deregisters here.
    while (Wait* waiter = waiters_.pop_front()) wake(*waiter);
    lock_.unlock();
  }

  void reset() noexcept {
    lock_.lock();
    set_ = false;
    lock_.unlock();
  }

  bool is_set() noexcept {
    lock_.lock();
    const bool set = set_;
    lock_.unlock();
    return set;
  }

  class Wait;
  /// `Result<void> woken = co_await event.wait(deadline);` ETIMEDOUT or ECANCELED when it was not the event.
  Wait wait(Instant deadline = kNever) noexcept;

 private:
  static void wake(Wait& waiter) noexcept;

  SpinLock lock_;
  bool set_ = false;
  List<Wait> waiters_;
};

class [[nodiscard]] Event::Wait : public IoAwait, public ListNode {
 public:
  Wait(Event& event, Instant until) noexcept : IoAwait(OpCode::sleep, -1, until), event_(event) {}

  template <class Awaiting>
  bool await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    const bool waits = IoAwait::await_suspend(awaiting);
    if (!waits) return false;
    event_.lock_.lock();
    const bool set = event_.set_;
    if (!set) event_.waiters_.push_back(*this);
    event_.lock_.unlock();
    if (set) wake(*this);  // submitted by this very thread, so it cannot have been resumed yet
    return true;
  }

  Result<void> await_resume() noexcept {
    event_.lock_.lock();
    if (linked()) List<Wait>::erase(*this);
    const bool happened = woken_ || event_.set_;
    event_.lock_.unlock();
    const Result<std::int32_t> slept = IoAwait::await_resume();
    if (happened) return {};
    if (!slept) return fail(slept.error().code, OpCode::task);
    return fail(ETIMEDOUT, OpCode::task);
  }

 private:
  friend class Event;

  Event& event_;
  bool woken_ = false;
};

inline Event::Wait Event::wait(Instant deadline) noexcept { return Wait(*this, deadline); }

}  // namespace evlua
