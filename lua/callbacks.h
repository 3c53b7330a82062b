// Functions of the library that may call Lua code back. Where they would not, they go the way of stock Lua; where they
// would, the code of lua/lib/waiting.lua does it, under which everything may wait.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

// What is done to a value.
inline constexpr unsigned kReads = 1;
inline constexpr unsigned kWrites = 2;
inline constexpr unsigned kLength = 4;

/// Compiled with Lua, since it looks into tables (cmake/lua/callbacks.c).
extern "C" int evlua_access_calls(lua_State* L, int index, unsigned access);

/// Whether that may call a function: for keys that are missing, __index or __newindex, or what these lead to, is one.
/// REQUIRES: `index` is that of an argument, not counted from the top.
inline bool access_calls(lua_State* L, int index, unsigned access) { return evlua_access_calls(L, index, access) != 0; }

/// Pushes a function of lua/lib/waiting.lua.
void push_waiting(lua_State* L, const char* name);

}  // namespace evlua::lua
