// Source files are compiled once per process; further Vms load the bytecode.
#pragma once

#include <lua.hpp>

#include <string>
#include <vector>

namespace evlua::lua {

/// compile(text, chunk name[, environment]) -> function, or nil and a message: as `load`.
int compile_shared(lua_State* L);

/// The global `load` takes bytecode only where its mode says so: nothing checks bytecode, and made for the purpose it
/// reads and writes any memory of the process.
void replace_load(lua_State* L);

/// The files that code was loaded from, in any Vm of the process, or that did not compile. [any thread]
std::vector<std::string> loaded_files();

}  // namespace evlua::lua
