/* The comparisons of lua/sort.cpp, here so that what they use of the API is inlined, as in stock table.sort.
   Included by one.c. */

/* Calls what is on top; the places of the two are those without it. */
static int call_order(lua_State *L, int first, int second, lua_KFunction again) {
  lua_pushvalue(L, first - 1);
  lua_pushvalue(L, second - 2);
  lua_callk(L, 2, 1, 0, again);
  int less = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return less;
}

/* By the function that is the second argument. */
int evlua_is_less_by_function(lua_State *L, int first, int second, lua_KFunction again) {
  lua_pushvalue(L, 2);
  return call_order(L, first, second, again);
}

int evlua_is_less(lua_State *L, int first, int second, lua_KFunction again) {
  const TValue *a = L->top + first, *b = L->top + second;
  if ((ttisnumber(a) && ttisnumber(b)) || (ttisstring(a) && ttisstring(b))) return luaV_lessthan(L, a, b);
  if (luaL_getmetafield(L, first, "__lt") != LUA_TNIL || luaL_getmetafield(L, second, "__lt") != LUA_TNIL) {
    return call_order(L, first, second, again);
  }
  return lua_compare(L, first, second, LUA_OPLT);
}
