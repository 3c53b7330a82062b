#include "lua/require.h"

#include "lua/bracket.h"

namespace evlua::lua {

namespace {

constexpr int kName = 1;  // on the stack

/// Upvalues: the function `begin`, and the table of the modules that are being loaded.
int begin_index() { return lua_upvalueindex(1); }
int loading_index() { return lua_upvalueindex(2); }

/// Stack: name, message handler, and what the loader has returned, or its error.
int loaded(lua_State* L, int status, lua_KContext) {
  lua_pushvalue(L, kName);
  lua_pushnil(L);
  lua_rawset(L, loading_index());
  if (status != LUA_OK && status != LUA_YIELD) return lua_error(L);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_insert(L, -2);
  if (lua_isnil(L, -1)) {  // the module may have made the entry itself
    lua_pushvalue(L, kName);
    if (lua_gettable(L, -3) == LUA_TNIL) lua_pushboolean(L, 1);
  }
  lua_pushvalue(L, kName);
  lua_pushvalue(L, -2);
  lua_settable(L, kName + 2);
  return 1;
}

/// Stack: name, and what `begin` has returned.
int begun(lua_State* L, int, lua_KContext) {
  const char what = *lua_tostring(L, kName + 1);
  lua_remove(L, kName + 1);
  if (what == 'l') {
    lua_pushcfunction(L, keep_trail);
    lua_insert(L, kName + 1);
    lua_pushvalue(L, kName);
    lua_insert(L, -2);
    return loaded(L, lua_pcallk(L, 2, 1, kName + 1, 0, loaded), 0);
  }
  lua_settop(L, kName + 1);
  if (what == 'd') return 1;
  if (what == 'f') {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

int require(lua_State* L) {
  luaL_checkstring(L, kName);
  lua_settop(L, kName);
  lua_pushvalue(L, begin_index());
  lua_pushvalue(L, kName);
  lua_callk(L, 1, 3, 0, begun);
  return begun(L, LUA_OK, 0);
}

}  // namespace

int make_require(lua_State* L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lua_pushcclosure(L, require, 2);
  return 1;
}

}  // namespace evlua::lua
