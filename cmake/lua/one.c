/* Lua's sources as one unit, so that functions of one file are inlined in those of others: worth 3 to 12 % of a script
   that computes. */
#include "lapi.c"
#include "lcode.c"
#include "lctype.c"

/* catchers.inc: all that ldebug.c calls is message handlers. */
static void evlua_call_handler(lua_State *L, StkId function, int results);
#define luaD_callnoyield evlua_call_handler
/* pause.inc */
#define lua_sethook evlua_stock_sethook
#define lua_gethookmask evlua_stock_gethookmask
#include "ldebug.c"
#undef luaD_callnoyield
#undef lua_sethook
#undef lua_gethookmask

#include "ldo.c"
#include "ldump.c"
#include "lfunc.c"
#include "llex.c"
#include "lmem.c"
#include "lobject.c"
#include "lopcodes.c"
#include "lparser.c"
#include "lstring.c"
#include "ltable.c"
#include "ltm.c"
#include "lundump.c"

#include "pause.inc"
#undef LUA_MASKCOUNT
#define LUA_MASKCOUNT (1 << LUA_HOOKCOUNT | MASK_PAUSE)
#define luaG_traceexec evlua_trace
#include "lvm.c"
#undef luaG_traceexec
#undef LUA_MASKCOUNT
#define LUA_MASKCOUNT (1 << LUA_HOOKCOUNT)

#include "lzio.c"

#include "lauxlib.c"
#include "lbaselib.c"
#include "lbitlib.c"
#include "lcorolib.c"
#include "ldblib.c"
#include "linit.c"
#include "liolib.c"
#include "lmathlib.c"
#include "loadlib.c"
#include "loslib.c"
#include "lstrlib.c"
#include "ltablib.c"
#include "lutf8lib.c"

#include "access.inc"
#include "catchers.inc"
#include "order.inc"

/* finalizers.c: all that lgc.c calls protected are finalizers. */
LUAI_FUNC int evlua_run_finalizer(lua_State *L, Pfunc call, void *argument, ptrdiff_t old_top, ptrdiff_t handler);
#define luaD_pcall evlua_run_finalizer
#include "lgc.c"
