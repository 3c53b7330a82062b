/* A Lua module in C, built as a rock would be: linked to no Lua. It loads only if the program that requires it exports
 * Lua's API, also those functions that the program itself never calls. */
#include <lauxlib.h>
#include <lua.h>

static int buffered(lua_State* L) {
  luaL_Buffer buffer;
  luaL_buffinitsize(L, &buffer, 16);
  luaL_addstring(&buffer, luaL_checkstring(L, 1));
  luaL_addlstring(&buffer, "-", 1);
  lua_pushinteger(L, luaL_optinteger(L, 2, 7));
  luaL_addvalue(&buffer);
  luaL_pushresult(&buffer);
  return 1;
}

static int after_yield(lua_State* L, int status, lua_KContext context) {
  lua_pushboolean(L, status == LUA_YIELD);
  lua_pushinteger(L, (lua_Integer)context);
  return 2;
}

static int yielding(lua_State* L) { return lua_yieldk(L, lua_gettop(L), 42, after_yield); }

/* Functions that few programs call: taking their address makes the loader find them. */
static int rare(lua_State* L) {
  void* addresses[] = {(void*)lua_arith,      (void*)lua_dump,        (void*)lua_upvalueid, (void*)lua_rawsetp,
                       (void*)lua_getlocal,   (void*)luaL_execresult, (void*)luaL_gsub,     (void*)lua_stringtonumber,
                       (void*)luaL_testudata, (void*)lua_xmove,       (void*)luaL_tolstring};
  int found = 0;
  for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; ++i) found += addresses[i] != NULL;
  lua_pushinteger(L, found);
  return 1;
}

int luaopen_probe(lua_State* L) {
  static const luaL_Reg functions[] = {{"buffered", buffered}, {"yielding", yielding}, {"rare", rare}, {NULL, NULL}};
  luaL_checkversion(L);
  luaL_newlib(L, functions);
  return 1;
}
