// What the tasks of a Vm are doing, for people: evlua.tasks, and reports of deadlocks.
#pragma once

#include <lua.hpp>

#include <string>

#include "lua/vm.h"

namespace evlua::lua {

/// tasks() -> a list of tables
int list_tasks(lua_State* L);

/// Every live task: its name, what it waits on, its traceback. [strand, outside of Lua code]
std::string describe_tasks(Vm& vm);

}  // namespace evlua::lua
