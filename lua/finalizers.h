// Finalizers (`__gc`) keep to the limits of the code that runs when Lua collects. Where none runs, because the runtime
// itself uses memory or the state closes, they have a second, and their errors are told on the log.
//
// Called by Lua (cmake/lua/finalizers.c), on the strand.
#pragma once

#include <lua.hpp>

#include "core/time.h"

namespace evlua::lua {

/// Before there is any state. [any thread]
void watch_finalizers();

/// What a Vm keeps for that.
struct FinalizerBound {
  Instant ends = 0;  ///< on the thread's processor clock
  lua_Hook hook = nullptr;
  int mask = 0;
  int count = 0;
  unsigned depth = 0;
};

}  // namespace evlua::lua
