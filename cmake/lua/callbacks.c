/* Whether an access to a value ends in a call of a function, told from what the tables' flags remember: for functions
   of the library, which ask in each call. The API would look three strings up. */
#define LUA_CORE

#include "lua.h"

#include "lobject.h"
#include "lstate.h"
#include "ltm.h"

enum { CHAIN_MAX = 100 };

static const TValue *metamethod(lua_State *L, const TValue *o, TMS event) {
  const TValue *found = ttistable(o) ? fasttm(L, hvalue(o)->metatable, event) : luaT_gettmbyobj(L, o, event);
  return found == NULL || ttisnil(found) ? NULL : found;
}

static int calls(lua_State *L, const TValue *o, TMS event) {
  for (int i = 0; i < CHAIN_MAX; ++i) {
    o = metamethod(L, o, event);
    if (o == NULL) return 0;
    if (ttisfunction(o)) return 1;
  }
  return 0;
}

/* lua/callbacks.h */
int evlua_access_calls(lua_State *L, int index, unsigned access) {
  const TValue *o = L->ci->func + index;
  if (o >= L->top || (ttistable(o) && hvalue(o)->metatable == NULL)) return 0;
  return ((access & 1) != 0 && calls(L, o, TM_INDEX)) || ((access & 2) != 0 && calls(L, o, TM_NEWINDEX)) ||
         ((access & 4) != 0 && metamethod(L, o, TM_LEN) != NULL);
}
