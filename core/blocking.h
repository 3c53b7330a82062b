// `auto result = co_await blocking(scheduler.pool(), [&] { return ::getpwnam_r(...); });`
//
// Runs a call that blocks on the pool while the coroutine waits. The callable lives in the awaiting frame. Cancellation
// withdraws a call that has not begun; one that runs is asked to return EINTR once, and is waited for in any case.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "core/blocking_pool.h"
#include "core/cancel.h"
#include "core/task.h"

namespace evlua {

template <class Call>
class [[nodiscard]] Blocking : private PoolJob, private CancelTarget {
 public:
  using Value = decltype(std::declval<Call&>()());

  Blocking(BlockingPool& pool, Call call, PoolJob::Class kind) : pool_(pool), call_(std::move(call)) {
    job_class = kind;
  }

  bool await_ready() const noexcept { return false; }

  template <class Awaiting>
  bool await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    const TaskContext& context = awaiting.promise().context;
    home_ = context.home;
    run = [](Runnable& self) noexcept {
      auto& job = static_cast<Blocking&>(self);
      job.value_.emplace(job.call_());
      job.finish();
    };
    request_stop = [](CancelTarget& self, OpStop) noexcept {
      auto& job = static_cast<Blocking&>(self);
      if (job.pool_.try_withdraw(job)) {
        job.finish();
      } else {
        job.pool_.interrupt(job);
      }
    };
    if (context.cancel != nullptr) {
      if (!context.cancel->arm(*this)) return false;
      cancel_ = context.cancel;
    }
    // A stop that comes between these two lines finds nothing to withdraw; the call then runs to its end.
    pool_.submit(*this);
    return true;
  }

  /// Empty when the call was withdrawn before it began.
  std::optional<Value> await_resume() noexcept {
    if (cancel_ != nullptr) cancel_->disarm();
    return std::move(value_);
  }

 private:
  void finish() noexcept {
    run = [](Runnable& self) noexcept { static_cast<Blocking&>(self).handle_.resume(); };
    home_->enqueue(*this);
  }

  BlockingPool& pool_;
  Call call_;
  std::optional<Value> value_;
  Executor* home_ = nullptr;
  CancelState* cancel_ = nullptr;
  std::coroutine_handle<> handle_;
};

template <class Call>
Blocking<Call> blocking(BlockingPool& pool, Call call, PoolJob::Class kind = PoolJob::Class::quick) {
  return Blocking<Call>(pool, std::move(call), kind);
}

}  // namespace evlua
