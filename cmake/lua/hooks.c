/* What the API does not tell of a coroutine's hook. */
#define LUA_CORE

#include "lua.h"

#include "ldo.h"
#include "lstate.h"

/* Instructions until the count hook is called. */
int evlua_hook_left(const lua_State *L) { return L->hookcount; }

/* As lua_sethook, but what Lua knows of the line that was last stays: for hooks that take each other's place, with the
   same bits for lines and returns in their masks. */
void evlua_put_hook(lua_State *L, lua_Hook function, int mask, int count, int left) {
  L->hook = function;
  L->basehookcount = count;
  L->hookcount = left;
  L->hookmask = cast_byte(mask);
}

/* A hook has yielded in the frame on top. Lua means to swallow the next call of the count hook and to start its count
   anew, but the hook that is set then may be another; and it has taken the instruction for one that was executed. */
const void *evlua_last_place(const lua_State *L) { return L->oldpc; }
void evlua_hook_has_yielded(lua_State *L, int left, const void *last_place) {
  L->ci->callstatus &= ~CIST_HOOKYIELD;
  L->hookcount = left;
  L->oldpc = (const Instruction *)last_place;
}

static void call(lua_State *L, void *function) {
  luaD_callnoyield(L, restorestack(L, *(ptrdiff_t *)function), 0);
}

/* For a hook: calls the function below the arguments on top so that other hooks, if the coroutine has one then, are
   called in it. The message handler hears of its error, which is to be passed on: that below the function where there
   is none. */
int evlua_call_hook(lua_State *L, int arguments) {
  ptrdiff_t function = savestack(L, L->top - (arguments + 1));
  L->allowhook = 1;
  ptrdiff_t handler = L->errfunc != 0 ? L->errfunc : function - (ptrdiff_t)sizeof(TValue);
  int status = luaD_pcall(L, call, &function, function, handler);
  L->allowhook = 0;
  return status;
}
void evlua_pass_error_on(lua_State *L, int status) { luaD_throw(L, status); }
