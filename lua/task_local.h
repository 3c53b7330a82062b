// What a task has of its own besides its stack: locals, which its children inherit, and functions that it has deferred
// until it ends.
#pragma once

#include <lua.hpp>

#include <string>

#include "core/op.h"
#include "core/time.h"
#include "lua/fiber.h"

namespace evlua::lua {

/// Prepares a new state.
void open_belongings(lua_State* L);

/// Runs what a task has deferred, the last one first, each as a fiber of its own that counts as the same task. Their
/// errors are told at once. If the task has limits, they have `kGrace` at least, together; the code of those that come
/// later is not run, but C functions are. [strand]
struct Deferred final : Fiber::Owner {
  /// Ends `fiber`, with that outcome, afterwards. What lies on its root stays there.
  static void begin(Fiber& fiber, Fiber::Outcome outcome);

 private:
  Deferred(Fiber& of, Fiber::Outcome how);

  void next();
  Fiber* take_fiber(lua_Integer calls_left);
  Fiber* make_fiber();
  void limit(Instant until) noexcept;
  void time_is_over() noexcept;
  void finish();
  void end();

  static constexpr Duration kGrace = kSecond;

  Fiber& fiber_;
  const Fiber::Outcome outcome_;
  Fiber* call_ = nullptr;  // that runs
  Instant until_ = kNever;
  bool over_ = false;  // the time until then
  struct Timer : Op {
    explicit Timer(Deferred& its) : Op(OpCode::sleep, -1), deferred(its) {}
    Deferred& deferred;
    bool started = false;
  } timer_{*this};
  bool finished_ = false;
  std::string trail_;  // of the error that the task has ended with
};

int task_locals(lua_State* L);  // locals() -> a table
int defer(lua_State* L);        // defer(f, ...)

}  // namespace evlua::lua
