#include "lua/brief.h"

#include <algorithm>

#include "core/check.h"
#include "lua/fiber.h"
#include "lua/pause.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

constexpr int kInstructionsToLook = 1000;

/// A limit of the task holds in its finalizers.
const char* end_of_task(lua_State* L) noexcept {
  Vm* vm = Vm::find(L);
  return vm != nullptr && vm->running() != nullptr ? vm->running()->check_limits_when_stuck() : nullptr;
}

}  // namespace

thread_local constinit Instant Brief::ends_ = kNever;
thread_local constinit int Brief::instructions_left_ = 0;

Brief::Limit::Limit(Duration time) noexcept : outer_ends_(ends_) { ends_ = std::min(ends_, thread_cpu_time() + time); }

Brief::Scope::Scope(lua_State* L, Duration time) noexcept
    : limit_(time), state_(L), paused_before_(evlua_take_pause(L) != 0) {
  evlua_ask_to_pause(L);
}

Brief::Scope::~Scope() {
  if (!paused_before_) (void)evlua_take_pause(state_);
}

int Brief::resume(lua_State* L, lua_State* from, int arguments) noexcept {
  const Scope scope(L, kSecond);
  return lua_resume(L, from, arguments);
}

const char* Brief::check() noexcept { return thread_cpu_time() < ends_ ? nullptr : "it takes too long"; }

void Brief::look(lua_State* L) {
  if (--instructions_left_ > 0) return;
  const char* ends = check();
  if (ends == nullptr) ends = end_of_task(L);
  if (ends != nullptr) raise_past_catchers(L, ends);  // and again, for whoever catches the error
  instructions_left_ = kInstructionsToLook;
}

}  // namespace evlua::lua
