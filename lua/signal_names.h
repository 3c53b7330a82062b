// The names of signals.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// Argument `index`: "SIGTERM", "TERM" or a number, or raises. Absent: `otherwise`.
int check_signal(lua_State* L, int index, int otherwise);
/// Pushes "SIGTERM", or "SIG37" for one that has no name.
void push_signal_name(lua_State* L, int number);

}  // namespace evlua::lua
