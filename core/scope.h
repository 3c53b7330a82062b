// TaskScope: detached work with an owner. Tasks spawned into a scope run concurrently; the scope waits for all of them
// before it ends, and can cancel them together. Detached work outside a scope does not exist.
#pragma once

#include <coroutine>
#include <cstddef>

#include "core/cancel.h"
#include "core/intrusive.h"
#include "core/lockfree/spin_lock.h"
#include "core/task.h"

namespace evlua {

class TaskScope final : private CancelTarget {
 public:
  /// Tasks run on `home` (the scheduler, a strand, a worker's pinned executor).
  explicit TaskScope(Executor& home, Instant deadline = kNever) noexcept : home_(home), deadline_(deadline) {}
  /// REQUIRES: join was awaited after the last spawn.
  ~TaskScope();
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;

  /// Starts `task` soon on the scope's executor. A task spawned into a cancelled scope runs, with every wait cancelled.
  /// [any thread]
  void spawn(Task<void> task);
  /// As above, on another executor.
  void spawn_on(Executor& home, Task<void> task);

  /// Asks every task, present and future, to stop. [any thread]
  void cancel(OpStop why = OpStop::cancelled) noexcept;

  /// Tasks that have not ended. [any thread]
  std::size_t size() noexcept;

  class [[nodiscard]] Join;
  /// Waits until no task is left. Cancelling the waiter cancels the tasks; it still waits for their end. One waiter.
  Join join() noexcept;

 private:
  struct Child;

  void child_ended(Child& child) noexcept;

  Executor& home_;
  const Instant deadline_;
  SpinLock lock_;
  List<Child> children_;
  std::size_t count_ = 0;
  OpStop why_ = OpStop::none;
  Join* joiner_ = nullptr;
};

class [[nodiscard]] TaskScope::Join : private Runnable {
 public:
  explicit Join(TaskScope& scope) noexcept : scope_(scope) {}
  bool await_ready() const noexcept { return false; }
  template <class Awaiting>
  bool await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    return begin(awaiting.promise().context);
  }
  void await_resume() noexcept {
    if (cancel_ != nullptr) cancel_->disarm();
  }

 private:
  friend class TaskScope;
  bool begin(const TaskContext& context) noexcept;

  TaskScope& scope_;
  std::coroutine_handle<> handle_;
  Executor* home_ = nullptr;
  CancelState* cancel_ = nullptr;
};

inline TaskScope::Join TaskScope::join() noexcept { return Join(*this); }

}  // namespace evlua
