// Cancellation: a request that reaches whatever a chain of coroutines waits on right now, and every later wait.
//
// A chain waits on at most one thing at a time. While it does, it registers that thing here; a request from any thread
// is passed on under the lock, so the thing cannot vanish in between. The thing still ends by itself, with ECANCELED
// or with a result that won; nothing is abandoned.
#pragma once

#include "core/lockfree/spin_lock.h"
#include "core/op.h"

namespace evlua {

/// Something that can be asked to end early.
struct CancelTarget {
  /// Called at most once per registration, under the CancelState's lock: it must only pass the wish on.
  void (*request_stop)(CancelTarget&, OpStop) noexcept = nullptr;
};

class CancelState {
 public:
  /// Asks the chain to stop; the first reason stays. [any thread]
  void request(OpStop why) noexcept {
    lock_.lock();
    if (why_ == OpStop::none) {
      why_ = why;
      if (target_ != nullptr) target_->request_stop(*target_, why);
    }
    lock_.unlock();
  }

  /// Registers what the chain is about to wait on. False when a stop was requested already: do not wait. [chain]
  [[nodiscard]] bool arm(CancelTarget& target) noexcept {
    lock_.lock();
    const bool wanted = why_ == OpStop::none;
    if (wanted) target_ = &target;
    lock_.unlock();
    return wanted;
  }

  /// The wait is over; afterwards nobody touches the target. [chain]
  void disarm() noexcept {
    lock_.lock();
    target_ = nullptr;
    lock_.unlock();
  }

  /// [any thread]
  OpStop why() noexcept {
    lock_.lock();
    const OpStop why = why_;
    lock_.unlock();
    return why;
  }

 private:
  SpinLock lock_;
  OpStop why_ = OpStop::none;
  CancelTarget* target_ = nullptr;
};

}  // namespace evlua
