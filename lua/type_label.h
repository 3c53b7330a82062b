// What people call the types of our objects, for messages.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// What people call the type that is registered as `name`: "evlua.wait_group" is a "wait group".
const char* type_label(const char* name) noexcept;
/// The userdata of the type `name` at `index`, or raises an error of an argument, with the type's label.
void* check_object(lua_State* L, int index, const char* name);

}  // namespace evlua::lua
