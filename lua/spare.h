// The state of calls that callbacks interrupt is in a userdata; most calls use the one of the call before.
#pragma once

#include <lua.hpp>

namespace evlua::lua {

/// Pushes a userdata for the T of a call of the running function, whose upvalue 1 is that of the call before. That one
/// is used again unless its `busy` says that the call has not ended, or has failed. The caller builds the T, busy.
template <class T>
void* push_spare(lua_State* L) {
  const auto* spare = static_cast<const T*>(lua_touserdata(L, lua_upvalueindex(1)));
  if (spare == nullptr || spare->busy) {
    (void)lua_newuserdata(L, sizeof(T));
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(1));
  } else {
    lua_pushvalue(L, lua_upvalueindex(1));
  }
  return lua_touserdata(L, -1);
}

}  // namespace evlua::lua
