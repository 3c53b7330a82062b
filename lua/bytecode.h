// Source files are compiled once per process; further Vms load the bytecode.
#pragma once

#include <lua.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace evlua::lua {

/// compile(text, chunk name[, environment]) -> function, or nil and a message: as `load`.
int compile_shared(lua_State* L);

/// Files and modules of the process that were compiled, and that were loaded from what had been. [any thread]
struct CodeCounts {
  std::uint64_t compiled = 0;
  std::uint64_t reused = 0;
};
CodeCounts code_counts();

/// The global `load` takes bytecode only where its mode says so: nothing checks bytecode, and made for the purpose it
/// reads and writes any memory of the process.
void replace_load(lua_State* L);

/// The files that code was loaded from, in any Vm of the process, or that did not compile. [any thread]
std::vector<std::string> loaded_files();

}  // namespace evlua::lua
