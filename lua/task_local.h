// What a task has of its own besides its stack: locals, which its children inherit, and functions that it has deferred
// until it ends.
#pragma once

#include <lua.hpp>

#include <string>

#include "lua/fiber.h"

namespace evlua::lua {

/// Prepares a new state.
void open_belongings(lua_State* L);

/// Runs what a task has deferred, the last one first, each as a fiber of its own that counts as the same task. Their
/// errors are told at once. [strand]
struct Deferred final : Fiber::Owner {
  /// Ends `fiber`, with that outcome, afterwards. What lies on its root stays there.
  static void begin(Fiber& fiber, Fiber::Outcome outcome);

 private:
  Deferred(Fiber& of, Fiber::Outcome how);

  void next();
  Fiber* take_fiber(lua_Integer calls_left);
  Fiber* make_fiber();

  Fiber& fiber_;
  const Fiber::Outcome outcome_;
  std::string trail_;  // of the error that the task has ended with
};

int task_locals(lua_State* L);  // locals() -> a table
int defer(lua_State* L);        // defer(f, ...)

}  // namespace evlua::lua
