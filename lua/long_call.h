// What C code of ours asks every so often that computes on and on, since nothing pauses it there.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// Lets others have what waits; null, or what the computation has to be ended with.
const char* look_at_limits() noexcept;

/// The same, but raises that; true: the caller has had its time slice while others wait. If it can go on from a
/// continuation it shall give way.
bool slice_is_over(lua_State* L);
/// Yields until they have had their turn; then `again` goes on. From a C function of Lua, as lua_yieldk without values.
int give_way(lua_State* L, lua_KContext context, lua_KFunction again);

}  // namespace evlua::lua
