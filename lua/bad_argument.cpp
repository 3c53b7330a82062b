#include "lua/bad_argument.h"

#include <cstring>

#include "core/check.h"

namespace evlua::lua {

namespace {

[[noreturn]] void raise(lua_State* L, lua_Integer position, const char* what, int level) {
  lua_Debug function;
  const char* name = "?";
  if (lua_getstack(L, level, &function) != 0) {
    lua_getinfo(L, "n", &function);
    if (function.name != nullptr) {
      name = function.name;
    } else if (push_public_name(L, function)) {
      name = lua_tostring(L, -1);
    }
  }
  luaL_where(L, level + 1);
  lua_pushfstring(L, "bad argument #%I to '%s' (%s)", position, name, what);
  lua_concat(L, 2);
  lua_error(L);
  EVLUA_UNREACHABLE();
}

int bad_argument(lua_State* L) {
  raise(L, luaL_checkinteger(L, 1), luaL_checkstring(L, 2), static_cast<int>(luaL_optinteger(L, 3, 1)));
}

int bad_type(lua_State* L) {
  constexpr int kBefore = 3;
  const lua_Integer position = luaL_checkinteger(L, 1);
  const char* got = luaL_typename(L, kBefore + static_cast<int>(position));
  const char* what = lua_pushfstring(L, "%s expected, got %s", luaL_checkstring(L, 2), got);
  raise(L, position, what, static_cast<int>(luaL_checkinteger(L, 3)));
}

}  // namespace

bool push_public_name(lua_State* L, lua_Debug& where) {
  const int top = lua_gettop(L);
  lua_getinfo(L, "f", &where);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil(L);
  while (lua_next(L, top + 2) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_istable(L, -1)) {
      lua_pushnil(L);
      while (lua_next(L, -2) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, top + 1) != 0) {
          const char* module = lua_tostring(L, -4);
          if (std::strcmp(module, "_G") == 0) {
            lua_pushvalue(L, -2);
          } else {
            lua_pushfstring(L, "%s.%s", module, lua_tostring(L, -2));
          }
          lua_replace(L, top + 1);
          lua_settop(L, top + 1);
          return true;
        }
        lua_pop(L, 1);
      }
    }
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  return false;
}

int open_bad_argument(lua_State* L) {
  lua_pushcfunction(L, bad_argument);
  return 1;
}

int open_bad_type(lua_State* L) {
  lua_pushcfunction(L, bad_type);
  return 1;
}

}  // namespace evlua::lua
