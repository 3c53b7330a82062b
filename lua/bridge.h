// How a Lua function waits.
//
//   int sleep(lua_State* L) {
//     const double seconds = luaL_checknumber(L, 1);     // trivial locals only: this part may raise
//     return suspend<SleepWait>(L, seconds);             // built in the fiber's slot, then the coroutine yields
//   }
//
// Nothing with a destructor may be alive in a Lua function at a call that may raise or yield: Lua is built as C, and
// its longjmp runs no destructors.
#pragma once

#include <lua.hpp>

#include "core/cancel.h"
#include "core/error.h"
#include "core/op.h"
#include "core/task.h"
#include "core/worker.h"
#include "lua/fiber.h"

namespace evlua::lua {

/// Pushes `nil, message, code` and returns 3. `subject` is what the operation was about ("127.0.0.1:80"), or null.
int push_failure(lua_State* L, const Error& error, const char* subject = nullptr);
int push_failure(lua_State* L, const char* message, const char* code);
/// As push_failure for the error of a wait. If the wait ended because its task was cancelled, the task knows it now;
/// the error says ETIMEDOUT if the task's time ran out.
int push_wait_failure(lua_State* L, Error error, const char* subject = nullptr);

/// The error of a limit of the running fiber. Whoever catches it gets it again at once, before another wait could
/// begin: between waits that are refused no slice gets long enough to be looked at.
[[noreturn]] void raise_limit(lua_State* L, Fiber& fiber, const char* message);

/// The running fiber, ready to wait. Raises where waiting is impossible, naming the C function in the way.
Fiber& fiber_to_wait(lua_State* L);
/// Before an error is raised that a coroutine inside of L has ended by. Where that is a wait that was refused below a
/// message handler, the handler must not get it: it would only make it again, until there is no stack left.
void skip_message_handler(lua_State* L, const Fiber& fiber);
/// For a fiber that was cancelled: pushes the failure the first time and returns its length, raises afterwards.
int refuse_wait(lua_State* L, Fiber& fiber);
int continue_wait(lua_State* L, int status, lua_KContext context);

/// Builds an S in the fiber's slot and yields: `return suspend<S>(L, ...)`. The arguments of the Lua function stay on
/// its stack, so what they refer to lives until S::finish.
template <class S, class... Arguments>
int suspend(lua_State* L, Arguments&&... arguments) {
  Fiber& fiber = fiber_to_wait(L);
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) return refuse_wait(L, fiber);
  fiber.emplace<S>(std::forward<Arguments>(arguments)...);
  return lua_yieldk(L, 0, 0, &continue_wait);
}

/// A wait for one operation. Derive from it, set `args`, and give `finish`.
struct OpWait : Suspension, Op {
  OpWait(OpCode op_code, int descriptor, Instant until) : Op(op_code, descriptor) {
    deadline = until;
    start = [](Suspension& self, Fiber& waiter) { static_cast<OpWait&>(self).begin(waiter); };
    cancel = [](Suspension& self) noexcept { Worker::cancel(static_cast<OpWait&>(self)); };
  }

  Fiber* fiber = nullptr;

 protected:
  void begin(Fiber& waiter) noexcept {
    bind(waiter);
    Worker& worker = Worker::current();
    worker.prepare(*this);
    worker.submit(*this);
  }
  void bind(Fiber& waiter) noexcept {
    fiber = &waiter;
    home = &waiter.vm().strand();
    run = [](Runnable& self) noexcept { static_cast<OpWait&>(self).fiber->complete(); };
  }
};

/// A wait of several operations, one after another in the same Op. `Wait` has `bool advance()`, which takes a result,
/// and returns true when the wait is over; else it has set `args` for the next operation.
template <class Wait>
struct StepWait : OpWait {
  using OpWait::OpWait;

 protected:
  void begin_steps(Fiber& waiter) noexcept {
    bind(waiter);
    run = [](Runnable& self) noexcept { static_cast<StepWait&>(self).step(); };
    next_step();
  }

 private:
  void step() noexcept {
    if (static_cast<Wait&>(*this).advance()) {
      fiber->complete();
    } else {
      next_step();
    }
  }
  void next_step() noexcept {
    Worker& worker = Worker::current();
    worker.prepare(*this);
    if (fiber->cancelled() == OpStop::none || fiber->shielded()) {
      worker.submit(*this);
    } else {  // while a result was on its way here: a cancel finds only operations in flight
      worker.abandon(*this, OpStop::cancelled);
      step();
    }
  }
};

/// A wait for another piece of Lua: ends at `wake`, at its deadline, or by cancellation. All on the strand.
struct Park : OpWait {
  explicit Park(Instant until) : OpWait(OpCode::sleep, -1, until) {
    start = [](Suspension& self, Fiber& waiter) { static_cast<Park&>(self).begin_park(waiter); };
    cancel = &ask_to_end;
  }

  /// True for the one caller who has ended the wait; nobody else may give what was waited for.
  bool wake() noexcept { return end(End::woken); }
  bool woken() const noexcept { return end_ == End::woken; }
  /// It has been woken or cancelled. (A deadline that has passed can still be overtaken by `wake`.)
  bool over() const noexcept { return end_ != End::none; }
  bool cancelled() const noexcept { return end_ == End::cancelled; }
  /// Why it ended, if not woken.
  Error error() const noexcept {
    return Error{end_ == End::cancelled ? ECANCELED : ETIMEDOUT, ErrorDomain::system, OpCode::task};
  }

  /// What `cancel` is in every Park, and nowhere else.
  static void ask_to_end(Suspension& self) noexcept { (void)static_cast<Park&>(self).end(End::cancelled); }
  /// Something outside of the Vm can end it as well.
  bool waits_for_others() const noexcept { return awaits_others; }

 protected:
  enum class End : unsigned char { none, woken, cancelled, expired };

  void begin_park(Fiber& waiter) noexcept {
    if (deadline != kNever) {
      begin(waiter);
      return;
    }
    bind(waiter);
    if (!awaits_others) waiter.vm().began_inner_wait();
  }
  bool end(End reason) noexcept {
    if (end_ != End::none) return false;
    end_ = reason;
    if (deadline != kNever) {
      Worker::cancel(*this);
      return true;
    }
    if (!awaits_others) fiber->vm().ended_inner_wait();
    home->enqueue(*this);
    return true;
  }

  bool awaits_others = false;  ///< something outside of the Vm can end it as well

 private:
  End end_ = End::none;
};

/// A wait for a Task, run on the VM's strand. `push` turns the value into Lua results and may raise.
template <class T, class Push>
struct TaskWait : Suspension, Runnable {
  TaskWait(Task<Result<T>> work, Push push_results) : task(std::move(work)), push(std::move(push_results)) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<TaskWait&>(self);
      wait.fiber = &waiter;
      wait.task.start(TaskContext{&waiter.vm().strand(), &wait.stop, kNever}, wait);
    };
    run = [](Runnable& ended) noexcept { static_cast<TaskWait&>(ended).fiber->complete(); };
    cancel = [](Suspension& self) noexcept { static_cast<TaskWait&>(self).stop.request(OpStop::cancelled); };
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<TaskWait&>(self);
      wait.result = wait.task.take();
      if (!wait.result) return push_wait_failure(L, wait.result.error(), wait.push.subject());
      if constexpr (std::is_void_v<T>) {
        return wait.push(L);
      } else {
        return wait.push(L, *wait.result);
      }
    };
  }

  Task<Result<T>> task;
  Push push;
  CancelState stop;
  Fiber* fiber = nullptr;
  Result<T> result = tl::unexpected<Error>(Error{});  // here, so that a raise in push leaves nothing undestroyed
};

/// The wait of a close, which cannot be refused: it is carried out even in a cancelled task. Gives true.
struct CloseWait : Suspension, Runnable {
  explicit CloseWait(Task<void> closing) : task(std::move(closing)) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<CloseWait&>(self);
      wait.fiber = &waiter;
      wait.run = [](Runnable& ended) noexcept { static_cast<CloseWait&>(ended).fiber->complete(); };
      wait.task.start(TaskContext{&waiter.vm().strand(), nullptr, kNever}, wait);
    };
    cancel = [](Suspension&) noexcept {};
    finish = [](Suspension&, lua_State* L) {
      lua_pushboolean(L, 1);
      return 1;
    };
  }
  Task<void> task;
  Fiber* fiber = nullptr;
};

/// Waits for the close that `make()` begins: `return suspend_close(L, [&] { return stream.close(); })`.
template <class Make>
int suspend_close(lua_State* L, Make make) {
  Fiber& fiber = fiber_to_wait(L);
  fiber.emplace<CloseWait>(make());
  return lua_yieldk(L, 0, 0, &continue_wait);
}

/// Waits for the task that `make()` creates, which happens only if waiting is possible.
template <class T, class Make, class Push>
int suspend_task(lua_State* L, Make make, Push push) {
  Fiber& fiber = fiber_to_wait(L);
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) return refuse_wait(L, fiber);
  fiber.emplace<TaskWait<T, Push>>(make(), push);
  return lua_yieldk(L, 0, 0, &continue_wait);
}

}  // namespace evlua::lua
