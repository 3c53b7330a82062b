// What functions of the library do to values, where metamethods may be called: these may wait. Compiled with Lua, since
// it looks into tables (cmake/lua/callbacks.c, access.inc).
#pragma once

#include <lua.hpp>

namespace evlua::lua {

// What is done to a value.
inline constexpr unsigned kReads = 1;
inline constexpr unsigned kWrites = 2;
inline constexpr unsigned kLength = 4;

extern "C" int evlua_access_calls(lua_State* L, int index, unsigned access);

/// Whether that may call a function: for keys that are missing, __index or __newindex, or what these lead to, is one.
/// REQUIRES: `index` is that of an argument, not counted from the top.
inline bool access_calls(lua_State* L, int index, unsigned access) { return evlua_access_calls(L, index, access) != 0; }

// As lua_geti, lua_gettable, lua_seti, lua_len and lua_compare for equality, the answer of which is pushed. Where a
// function that they call has to wait, `again` goes on, with the same on the stack.
// REQUIRES: indexes are those of arguments, or of what else is on the stack, not counted from the top.
extern "C" {
void evlua_get_element(lua_State* L, int index, lua_Integer key, lua_KContext context, lua_KFunction again);
void evlua_get_field(lua_State* L, int index, lua_KContext context, lua_KFunction again);
void evlua_set_element(lua_State* L, int index, lua_Integer key, lua_KContext context, lua_KFunction again);
void evlua_get_length(lua_State* L, int index, lua_KContext context, lua_KFunction again);
void evlua_get_equality(lua_State* L, int first, int second, lua_KContext context, lua_KFunction again);
int evlua_next_index(lua_State* L);  ///< The iterator of ipairs.
}

}  // namespace evlua::lua
