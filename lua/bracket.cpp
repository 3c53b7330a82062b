#include "lua/bracket.h"

#include "lua/vm.h"

namespace evlua::lua {

int keep_trail(lua_State* L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, nullptr), 1);
  Vm::of(L).set_trail(L, 1, lua_tostring(L, -1));
  lua_settop(L, 1);
  return 1;
}

namespace {

/// Stack: subject, token, release, whether f gets the token, message handler; results or an error.
int performed(lua_State* L, int status, lua_KContext) {
  bool failed = status != LUA_OK && status != LUA_YIELD;
  Vm& vm = Vm::of(L);
  vm.keep_limit(false);  // memory must not be what keeps it from being released
  if (lua_checkstack(L, 4) == 0) {
    failed = true;
    lua_settop(L, 5);
    lua_pushliteral(L, "too many results");
  }
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  lua_call(L, 2, 0);
  vm.keep_limit(true);
  return failed ? lua_error(L) : lua_gettop(L) - 5;
}

/// Stack: subject, acquire, release, whether f gets the token, f, arguments; what acquire has returned.
int acquired(lua_State* L, int, lua_KContext) {
  if (lua_toboolean(L, -3) == 0) return 3;
  lua_pop(L, 2);
  lua_replace(L, 2);
  lua_pushcfunction(L, keep_trail);
  lua_insert(L, 5);
  if (lua_toboolean(L, 4) != 0) {
    lua_pushvalue(L, 2);
    lua_insert(L, 7);
  }
  return performed(L, lua_pcallk(L, lua_gettop(L) - 6, LUA_MULTRET, 5, 0, performed), 0);
}

}  // namespace

int bracket(lua_State* L) {
  luaL_checkstack(L, 8, "too many arguments");
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  lua_callk(L, 1, 3, 0, acquired);
  return acquired(L, LUA_OK, 0);
}

int bracket_with(lua_State* L, lua_CFunction acquire, lua_CFunction release) {
  luaL_checktype(L, 2, LUA_TFUNCTION);
  luaL_checkstack(L, 3, "too many arguments");
  lua_pushcfunction(L, acquire);
  lua_insert(L, 2);
  lua_pushcfunction(L, release);
  lua_insert(L, 3);
  lua_pushboolean(L, 0);
  lua_insert(L, 4);
  return bracket(L);
}

}  // namespace evlua::lua
