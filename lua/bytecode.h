// Source files are compiled once per process; further Vms load the bytecode.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// compile(text, chunk name[, environment]) -> function, or nil and a message: as `load`.
int compile_shared(lua_State* L);

}  // namespace evlua::lua
