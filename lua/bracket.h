// To have something while a function runs: a lock, a place in a pool.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// Message handler: the error's traceback goes with it.
int keep_trail(lua_State* L);

/// bracket(subject, acquire, release, pass, f, ...): token = acquire(subject); results of f([token,] ...), while
/// release(token, subject) is called however f ends. A limit that ends the task cannot come between: it strikes where
/// Lua code runs, and here is none. `release` is a C function that neither waits nor fails.
int bracket(lua_State* L);

/// For methods `object:with(f, ...)`: the same with what is on the stack as subject, f and its arguments.
int bracket_with(lua_State* L, lua_CFunction acquire, lua_CFunction release);

}  // namespace evlua::lua
