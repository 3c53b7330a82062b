// Iterators over what a read gives: `for line in file:lines() do ... end`.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// Pops an object and an argument, pushes an iterator that calls `read(object, argument)`, and returns 1. It ends where
/// the stream ends or has been closed by another task. Any other failure raises: what was cut must not look whole.
/// Of what `read` gives, the first `values`, up to 3, are the iterator's.
int push_iterator(lua_State* L, lua_CFunction read, int values = 1);

/// One step of such an iterator: calls `read` with what is on the stack.
int iterate(lua_State* L, lua_CFunction read);

/// Checks that argument 2 is a line format or a size, "l" being the default. REQUIRES: argument 1 is there.
void check_lines_argument(lua_State* L);
/// Checks that argument 2 is a size, or makes it `usual`.
void check_chunk_size(lua_State* L, lua_Integer usual);

}  // namespace evlua::lua
