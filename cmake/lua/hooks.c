/* What the API does not tell of a coroutine's hook. */
#define LUA_CORE

#include "lua.h"

#include "lstate.h"

/* Instructions until the count hook is called. */
int evlua_hook_left(const lua_State *L) { return L->hookcount; }
void evlua_set_hook_left(lua_State *L, int left) { L->hookcount = left; }

/* A hook has yielded in the frame on top. Lua means to swallow the next call of the count hook and to start its count
   anew, but the hook that is set then may be another. */
void evlua_hook_has_yielded(lua_State *L, int left) {
  L->ci->callstatus &= ~CIST_HOOKYIELD;
  L->hookcount = left;
}

/* An error goes past the message handler that xpcall was given. */
void evlua_skip_message_handler(lua_State *L) { L->errfunc = 0; }
