// For tasks that compute for long without waiting for anything: giving way to others, and noticing that they should
// end.
#pragma once

#include <algorithm>
#include <cerrno>
#include <coroutine>

#include "core/cancel.h"
#include "core/error.h"
#include "core/runnable.h"
#include "core/task.h"
#include "core/time.h"
#include "core/worker.h"

namespace evlua {

/// The coroutine goes on when what waits for its executor has had its turn: name it, then await it.
class [[nodiscard]] GiveWay : private Runnable {
 public:
  bool await_ready() const noexcept { return false; }
  template <class Awaiting>
  void await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    run = [](Runnable& self) noexcept { static_cast<GiveWay&>(self).handle_.resume(); };
    awaiting.promise().context.home->enqueue(*this);
  }
  void await_resume() const noexcept {}

 private:
  std::coroutine_handle<> handle_;
};

/// Why a task should end that works on without waiting for anything.
inline Result<void> check_stop(const TaskContext& context, Instant deadline, OpCode op) noexcept {
  const OpStop stop = context.cancel != nullptr ? context.cancel->why() : OpStop::none;
  if (stop != OpStop::none) return fail(stop == OpStop::deadline ? ETIMEDOUT : ECANCELED, op);
  if (Worker::current().now() >= std::min(deadline, context.deadline)) return fail(ETIMEDOUT, op);
  return {};
}

}  // namespace evlua
