/* Which globals a function and those in it name, from their bytecode: for evlua --check. The API does not show it. */
#define LUA_CORE

#include "lua.h"

#include "lauxlib.h"
#include "lobject.h"
#include "lopcodes.h"
#include "lstate.h"

/* The constant that a key is: one of the first 256, or loaded into a register before, or none that is known. */
static const TValue *key_of(const Proto *p, int pc, int rk) {
  if (ISK(rk)) return &p->k[INDEXK(rk)];
  while (--pc >= 0) {
    const Instruction i = p->code[pc];
    const OpCode op = GET_OPCODE(i);
    if (!testAMode(op) || GETARG_A(i) != rk) continue;
    if (op == OP_LOADK) return &p->k[GETARG_Bx(i)];
    if (op == OP_LOADKX) return &p->k[GETARG_Ax(p->code[pc + 1])];
    return NULL;
  }
  return NULL;
}

/* Appends {name =, line =, writes =} to the list on top. */
static void add(lua_State *L, const Proto *p, int pc, int rk, int writes) {
  const TValue *key = key_of(p, pc, rk);
  if (key == NULL || !ttisstring(key)) return;
  lua_createtable(L, 0, 3);
  lua_pushlstring(L, svalue(key), vslen(key));
  lua_setfield(L, -2, "name");
  lua_pushinteger(L, p->lineinfo != NULL ? p->lineinfo[pc] : 0);
  lua_setfield(L, -2, "line");
  lua_pushboolean(L, writes);
  lua_setfield(L, -2, "writes");
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* `globals` is the upvalue of p that holds the global table; -1: none does. A local _ENV is another one. */
static void walk(lua_State *L, const Proto *p, int globals) {
  luaL_checkstack(L, 8, "functions nested too deeply");
  for (int pc = 0; pc < p->sizecode; ++pc) {
    const Instruction i = p->code[pc];
    if (GET_OPCODE(i) == OP_GETTABUP && GETARG_B(i) == globals) add(L, p, pc, GETARG_C(i), 0);
    if (GET_OPCODE(i) == OP_SETTABUP && GETARG_A(i) == globals) add(L, p, pc, GETARG_B(i), 1);
  }
  for (int f = 0; f < p->sizep; ++f) {
    const Proto *inner = p->p[f];
    int inherited = -1;
    for (int u = 0; u < inner->sizeupvalues; ++u) {
      if (globals >= 0 && !inner->upvalues[u].instack && inner->upvalues[u].idx == globals) inherited = u;
    }
    if (inherited >= 0) walk(L, inner, inherited);
  }
}

/* globals(chunk) -> list of {name, line, writes} (lua/modules.h) */
int evlua_list_globals(lua_State *L) {
  luaL_argcheck(L, lua_isfunction(L, 1) && !lua_iscfunction(L, 1), 1, "Lua function expected");
  lua_newtable(L);
  walk(L, ((const LClosure *)lua_topointer(L, 1))->p, 0);
  return 1;
}
