#include "lua/brief.h"

#include <algorithm>

#include "core/check.h"
#include "lua/fiber.h"
#include "lua/set_hooks.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

constexpr int kInstructionsToLook = 100'000;

/// The hook that is there is not called; but Lua keeps track of lines for it.
void put(lua_State* L, lua_Hook hook, int count) noexcept {
  evlua_put_hook(L, hook, lua_gethookmask(L) | LUA_MASKCOUNT, count, count);
}

/// A limit of the task holds in its finalizers.
const char* end_of_task(lua_State* L) noexcept {
  Vm* vm = Vm::find(L);
  return vm != nullptr && vm->running() != nullptr ? vm->running()->check_limits() : nullptr;
}

}  // namespace

thread_local constinit Instant Brief::ends_ = kNever;

Brief::Limit::Limit(Duration time) noexcept : outer_ends_(ends_) { ends_ = std::min(ends_, thread_cpu_time() + time); }

// From the beginning of the limit until its end no signal handler changes hooks.
Brief::Scope::Scope(lua_State* L, Duration time) noexcept : limit_(time), state_(L), hook_(SetHooks::hook_of(L)) {
  put(L, on_hook, kInstructionsToLook);
}

Brief::Scope::~Scope() { evlua_put_hook(state_, hook_.function, hook_.mask, hook_.count, hook_.left); }

int Brief::resume(lua_State* L, lua_State* from, int arguments) noexcept {
  const Scope scope(L, kSecond);
  const int status = lua_resume(L, from, arguments);
  if (check() != nullptr) put(from, on_hook, 1);  // or it would resume others
  return status;
}

const char* Brief::check() noexcept { return thread_cpu_time() < ends_ ? nullptr : "it takes too long"; }

void Brief::on_hook(lua_State* L, lua_Debug* where) {
  if (where->event != LUA_HOOKCOUNT) return;
  const char* ends = check();
  if (ends == nullptr) ends = end_of_task(L);
  if (ends == nullptr) return;
  put(L, on_hook, 1);  // for whoever catches the error
  raise_past_catchers(L, ends);
}

}  // namespace evlua::lua
