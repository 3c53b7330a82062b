// Errors of arguments, as users know the functions that raise them.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// Pushes "table.sort" for a function that is a field of a loaded module; false, and nothing pushed, otherwise.
bool push_public_name(lua_State* L, lua_Debug& where);

/// The module evlua.bad_argument, for functions of lua/lib: bad_argument(position, what[, level]) raises what
/// luaL_argerror raises for functions in C. Level 1 is the function that calls it, 2 the one that has called that.
int open_bad_argument(lua_State* L);
/// The module evlua.bad_type: bad_type(position, expected, level, ...) raises what luaL_checktype raises, where `...`
/// are all arguments of the function: an argument that is not there is no nil.
int open_bad_type(lua_State* L);

}  // namespace evlua::lua
