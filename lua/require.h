// require: in C, as the stock one, so that its callers are on the stack even where they return what it returns, and
// modules that require each other may be as deep. What it does before it loads is in lua/lib/stock.lua.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// make_require(begin, loading) -> require. begin(name) returns what is to be done: "done", the value; "fail", a
/// message without a place; "raise", an error; or "load", the loader, and what that gets besides the name. Then it has
/// made a note in `loading`, which is taken away when the loader has ended.
int make_require(lua_State* L);

}  // namespace evlua::lua
