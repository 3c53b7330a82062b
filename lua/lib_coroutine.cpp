// coroutine.*, made aware of waiting. Stock semantics are kept: a coroutine that waits for I/O is, for everybody else,
// one that runs (status "normal"), and its resumer simply takes longer.
#include <lua.hpp>

#include "lua/bridge.h"
#include "lua/brief.h"
#include "lua/fiber.h"
#include "lua/modules.h"
#include "lua/slice.h"

namespace evlua::lua {

namespace {

constexpr int kFailed = -1;  // the error value is on top
constexpr int kWaits = -2;   // the inner coroutine waits: the caller must yield

lua_State* check_coroutine(lua_State* L) {
  lua_State* inner = lua_tothread(L, 1);
  luaL_argcheck(L, inner != nullptr, 1, "thread expected");
  return inner;
}

/// As stock auxresume: moves `arguments` values to `inner`, runs it, moves its values back. Returns their number.
int resume_nested(lua_State* L, lua_State* inner, int arguments) {
  if (lua_checkstack(inner, arguments) == 0) {
    lua_pushliteral(L, "too many arguments to resume");
    return kFailed;
  }
  if (Vm::is_held(inner)) {
    lua_pushliteral(L, "cannot resume non-suspended coroutine");
    return kFailed;
  }
  if (lua_status(inner) == LUA_OK && lua_gettop(inner) == 0) {
    lua_pushliteral(L, "cannot resume dead coroutine");
    return kFailed;
  }
  Fiber* fiber = Vm::of(L).running();
  if (fiber != nullptr && fiber->struck() != nullptr) {
    Slice::interrupt(L);
    lua_pushstring(L, fiber->struck());
    return kFailed;
  }
  lua_xmove(L, inner, arguments);
  const bool fixed = fiber != nullptr && lua_isyieldable(L) == 0;
  if (fixed) fiber->enter_unyieldable(L);
  if (fiber != nullptr) fiber->forget_refusal();
  lua_State* before = Vm::of(L).set_current_state(inner);
  Slice::began(inner);
  const int status = Brief::runs() ? Brief::resume(inner, L, arguments) : lua_resume(inner, L, arguments);
  Vm::of(L).set_current_state(before);
  if (Slice::left(inner)) Slice::interrupt(L);  // it was too short to be interrupted, and may be one of many
  if (fixed) fiber->leave_unyieldable();
  if (status == LUA_YIELD && fiber != nullptr && fiber->wants_wait()) {
    fiber->hold(inner);
    return kWaits;
  }
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(inner, L, 1);
    return kFailed;
  }
  const int results = lua_gettop(inner);
  if (lua_checkstack(L, results + 1) == 0) {
    lua_settop(inner, 0);
    lua_pushliteral(L, "too many results to resume");
    return kFailed;
  }
  lua_xmove(inner, L, results);
  return results;
}

/// What the fiber put on L's stack above `base` after the inner coroutine waited and then yielded, ended or failed.
int results_of_wait(lua_State* L, lua_KContext base) {
  const int status = Vm::of(L).running()->nested_status();
  if (status != LUA_OK && status != LUA_YIELD) return kFailed;
  return lua_gettop(L) - static_cast<int>(base);
}

int finish_resume(lua_State* L, int results) {
  if (results == kFailed) {
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushboolean(L, 1);
  lua_insert(L, -(results + 1));
  return results + 1;
}

int continue_resume(lua_State* L, int, lua_KContext base) { return finish_resume(L, results_of_wait(L, base)); }

int resume(lua_State* L) {
  lua_State* inner = check_coroutine(L);
  const int results = resume_nested(L, inner, lua_gettop(L) - 1);
  if (results == kWaits) return lua_yieldk(L, 0, lua_gettop(L), continue_resume);
  return finish_resume(L, results);
}

int finish_wrap(lua_State* L, int results) {
  if (results != kFailed) return results;
  Vm& vm = Vm::of(L);
  vm.add_trail(L, lua_tothread(L, lua_upvalueindex(1)), "in coroutine:");
  if (lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
    vm.rename_trail(L);
  }
  if (vm.running() != nullptr) skip_message_handler(L, *vm.running());
  return lua_error(L);
}

int continue_wrap(lua_State* L, int, lua_KContext base) { return finish_wrap(L, results_of_wait(L, base)); }

int call_wrapped(lua_State* L) {
  lua_State* inner = lua_tothread(L, lua_upvalueindex(1));
  const int results = resume_nested(L, inner, lua_gettop(L));
  if (results == kWaits) return lua_yieldk(L, 0, lua_gettop(L), continue_wrap);
  return finish_wrap(L, results);
}

int create(lua_State* L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State* inner = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, inner, 1);
  return 1;
}

int wrap(lua_State* L) {
  create(L);
  lua_pushcclosure(L, call_wrapped, 1);
  return 1;
}

bool is_root(lua_State* L) {
  const Fiber* fiber = Vm::of(L).running();
  return fiber == nullptr || const_cast<Fiber*>(fiber)->root() == L;
}

int yield(lua_State* L) {
  if (is_root(L)) return luaL_error(L, "attempt to yield from outside a coroutine");
  return lua_yield(L, lua_gettop(L));
}

int status(lua_State* L) {
  lua_State* inner = check_coroutine(L);
  const char* text = "dead";
  if (L == inner) {
    text = "running";
  } else {
    lua_Debug where;
    switch (lua_status(inner)) {
      case LUA_YIELD: text = Vm::is_held(inner) ? "normal" : "suspended"; break;
      case LUA_OK:
        if (lua_getstack(inner, 0, &where) > 0) {
          text = "normal";
        } else if (lua_gettop(inner) != 0) {
          text = "suspended";
        }
        break;
      default: break;
    }
  }
  lua_pushstring(L, text);
  return 1;
}

int running(lua_State* L) {
  const bool root = is_root(L);
  if (root && Vm::of(L).running() != nullptr) Vm::of(L).running()->keep_identity();
  lua_pushthread(L);
  lua_pushboolean(L, root);
  return 2;
}

int isyieldable(lua_State* L) {
  lua_pushboolean(L, !is_root(L) && lua_isyieldable(L) != 0);
  return 1;
}

}  // namespace

int open_coroutine(lua_State* L) {
  const luaL_Reg functions[] = {{"create", create}, {"isyieldable", isyieldable},
                                {"resume", resume}, {"running", running},
                                {"status", status}, {"wrap", wrap},
                                {"yield", yield},   {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
  return 0;
}

}  // namespace evlua::lua
