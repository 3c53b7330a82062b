// The parts of evlua.shared, see lib_shared.cpp.
#pragma once

#include <lua.hpp>

#include <cstdint>

#include "core/shared/dict.h"

namespace evlua::lua {

/// Sets a field of the table on top.
inline void set_integer(lua_State* L, const char* name, std::uint64_t value) {
  lua_pushinteger(L, static_cast<lua_Integer>(value));
  lua_setfield(L, -2, name);
}

// Each makes its types known to a state; the functions are those of the module.

void define_shared_dict(lua_State* L);
/// Pushes the function `dict`.
void push_open_dict(lua_State* L);

void define_shared_watch(lua_State* L);
/// Pushes a watch of the key at index 2, or of all where that is nil.
int push_watch(lua_State* L, Dict& dict);

void define_shared_lock(lua_State* L);
int shared_lock(lua_State* L);
int shared_unlock(lua_State* L);

void define_shared_metrics(lua_State* L);
int shared_counter(lua_State* L);
int shared_histogram(lua_State* L);

}  // namespace evlua::lua
