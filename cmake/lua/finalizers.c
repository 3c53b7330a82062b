/* Lua runs finalizers wherever it happens to collect: at the deepest recursion, in the last kilobyte of memory, between
   two calls of the runtime. One that cannot even be called there is lost, with what it had to close; one that does not
   return cannot be ended; and its error goes to whoever runs, if anybody catches it.

   lgc.c protects nothing but finalizers, and is compiled to call evlua_run_finalizer for it. */
#define LUA_CORE

#include "lua.h"

#include "ldo.h"
#include "lstate.h"
#include "ltm.h"

enum { CALLS_FOR_FINALIZER = 30 };

/* lua/finalizers.cpp; null as long as there are only states that others have made. */
int (*evlua_finalizer_begins)(lua_State *L);
void (*evlua_finalizer_ended)(lua_State *L, int how, const char *error);

int evlua_run_finalizer(lua_State *L, Pfunc call, void *argument, ptrdiff_t old_top, ptrdiff_t handler) {
  if (evlua_finalizer_begins == NULL) return luaD_pcall(L, call, argument, old_top, handler);
  const unsigned short calls = L->nCcalls;
  if (calls > LUAI_MAXCCALLS - CALLS_FOR_FINALIZER) L->nCcalls = LUAI_MAXCCALLS - CALLS_FOR_FINALIZER;
  const int how = evlua_finalizer_begins(L);
  int status = luaD_pcall(L, call, argument, old_top, handler);
  const char *untold = NULL;
  if (status != LUA_OK && L->errorJmp == NULL) { /* nobody would catch it: the program would abort */
    const TValue *error = L->top - 1;
    untold = ttisstring(error) ? svalue(error) : luaT_objtypename(L, error);
    status = LUA_OK;
  }
  evlua_finalizer_ended(L, how, untold);
  if (untold != NULL) L->top = restorestack(L, old_top);
  L->nCcalls = calls;
  return status;
}
