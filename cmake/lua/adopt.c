/* Strings whose bytes were put in their place before the Lua state that they are for knew of them: a long string comes
   from another state with one copy. The API only makes strings by copying. */
#define LUA_CORE

#include "lua.h"

#include "lapi.h"
#include "lgc.h"
#include "lobject.h"
#include "lstate.h"
#include "lstring.h"

/* The size of the block that a long string of that length is, and where its bytes begin in it. */
size_t evlua_string_block(size_t length, size_t *bytes_at) {
  *bytes_at = sizeof(UTString);
  return sizelstring(length);
}

/* Pushes the block as a string; it is the state's from here on, as if its allocator had given it. REQUIRES: the bytes
   are in it, and there are more than short strings have. */
void evlua_push_string_block(lua_State *L, void *block, size_t length) {
  global_State *g = G(L);
  TString *string = (TString *)block;
  string->marked = luaC_white(g);
  string->tt = LUA_TLNGSTR;
  string->next = g->allgc;
  g->allgc = obj2gco(string);
  string->hash = g->seed;
  string->extra = 0;
  string->u.lnglen = length;
  getstr(string)[length] = '\0';
  g->GCdebt += (l_mem)sizelstring(length);
  setsvalue2s(L, L->top, string);
  api_incr_top(L);
  luaC_checkGC(L);
}
