#include "lua/bridge.h"

#include <cstring>

#include "core/check.h"
#include "lua/bad_argument.h"
#include "lua/fiber.h"
#include "lua/slice.h"
#include "lua/stack.h"

namespace evlua::lua {

// cmake/lua/catchers.inc
extern "C" {
int evlua_is_message_handler(const lua_Debug* where);
int evlua_is_hook(const lua_Debug* where);
int evlua_handles_error(lua_State* L);
}

namespace {

/// Pushes the name of the nearest thing around L's running function that cannot be suspended.
void push_obstacle(lua_State* L, lua_State* where_from) {
  lua_Debug where;
  for (int level = 0; lua_getstack(where_from, level, &where) != 0; ++level) {
    if (evlua_is_message_handler(&where) != 0) {
      lua_pushliteral(L, "the message handler of xpcall");
      return;
    }
    if (evlua_is_hook(&where) != 0) {
      lua_pushliteral(L, "the hook of debug.sethook");
      return;
    }
    if (level == 0) continue;  // the function that wants to wait, or that resumes the coroutine that does
    lua_getinfo(where_from, "nS", &where);
    if (where.namewhat != nullptr && std::strcmp(where.namewhat, "metamethod") == 0 &&
        std::strcmp(where.name, "__gc") == 0) {
      lua_pushliteral(L, "__gc");
      return;
    }
    if (std::strcmp(where.what, "C") != 0) continue;
    if (push_public_name(where_from, where)) {
      const char* name = lua_tostring(where_from, -1);
      if (std::strcmp(name, "pcall") == 0 || std::strcmp(name, "xpcall") == 0) {  // these can be suspended
        lua_pop(where_from, 1);
        continue;
      }
      lua_xmove(where_from, L, 1);
    } else {
      lua_pushstring(L, where.name != nullptr ? where.name : "a C function");
    }
    return;
  }
  lua_pushliteral(L, "a C function");
}

/// Pushes the place that calls the running function. A handler or a hook is called at a place that knows nothing of it.
void push_place(lua_State* L) {
  lua_Debug where;
  const bool known = lua_getstack(L, 0, &where) != 0;
  if (known && (evlua_is_message_handler(&where) != 0 || evlua_is_hook(&where) != 0)) {
    lua_pushliteral(L, "");
  } else {
    luaL_where(L, 1);
  }
}

[[noreturn]] void refuse_to_wait(lua_State* L, Fiber& fiber) {
  push_place(L);
  push_obstacle(L, lua_isyieldable(L) != 0 ? fiber.unyieldable_at() : L);
  lua_pushfstring(L,
                  "%scannot wait inside '%s': it calls back across a C-call boundary and cannot be suspended; "
                  "do the waiting before or after it",
                  lua_tostring(L, -2), lua_tostring(L, -1));
  fiber.note_refusal();
  skip_message_handler(L, fiber);
  lua_error(L);
  EVLUA_UNREACHABLE();
}

}  // namespace

void skip_message_handler(lua_State* L, const Fiber& fiber) {
  if (fiber.was_refused() && evlua_handles_error(L) != 0) skip_catchers(L);
}

int push_failure(lua_State* L, const char* message, const char* code) {
  lua_pushnil(L);
  lua_pushstring(L, message);
  lua_pushstring(L, code);
  return 3;
}

int push_failure(lua_State* L, const Error& error, const char* subject) {
  lua_pushnil(L);
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  const bool plain = error.is(Errc::end_of_file) || error.op == OpCode::nop || error.op == OpCode::task;
  if (!plain || subject != nullptr) {
    if (!plain) luaL_addstring(&text, name_of(error.op));
    if (subject != nullptr) {
      if (!plain) luaL_addchar(&text, ' ');
      luaL_addstring(&text, subject);
    }
    luaL_addstring(&text, ": ");
  }
  char message[256];
  copy_message(error, message, sizeof message);
  luaL_addstring(&text, message);
  luaL_pushresult(&text);
  lua_pushstring(L, error.name());
  return 3;
}

void raise_limit(lua_State* L, Fiber& fiber, const char* message) {
  if (!fiber.spared()) {
    fiber.strike(message);
    Slice::interrupt(L);
  }
  raise_past_catchers(L, message);
}

int push_wait_failure(lua_State* L, Error error, const char* subject) {
  Fiber* fiber = Vm::of(L).running();
  if (error.is(ECANCELED) && fiber != nullptr && fiber->cancelled() != OpStop::none && !fiber->shielded()) {
    (void)fiber->take_cancel_notice();
    if (fiber->doom() != nullptr) raise_limit(L, *fiber, fiber->doom());
    if (fiber->cancelled() == OpStop::deadline) error.code = ETIMEDOUT;
  }
  return push_failure(L, error, subject);
}

Fiber& fiber_to_wait(lua_State* L) {
  Fiber* fiber = Vm::of(L).running();
  if (fiber == nullptr) luaL_error(L, "cannot wait outside of a task");
  if (!fiber->may_wait(L)) refuse_to_wait(L, *fiber);
  return *fiber;
}

int refuse_wait(lua_State* L, Fiber& fiber) {
  const bool late = fiber.cancelled() == OpStop::deadline;
  if (fiber.doom() != nullptr) raise_limit(L, fiber, fiber.doom());
  if (!fiber.take_cancel_notice()) {
    fiber.note_cancel_raised();
    return luaL_error(L, late ? "task timed out" : "task cancelled");
  }
  return push_failure(L, Error{late ? ETIMEDOUT : ECANCELED, ErrorDomain::system, OpCode::task});
}

int continue_wait(lua_State* L, int, lua_KContext) { return Vm::of(L).running()->finish_wait(L); }

}  // namespace evlua::lua
