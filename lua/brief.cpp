#include "lua/brief.h"

#include <algorithm>

#include "core/check.h"
#include "lua/set_hooks.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

constexpr int kInstructionsToLook = 100'000;

}  // namespace

thread_local constinit Instant Brief::ends_ = kNever;

Brief::Limit::Limit(Duration time) noexcept : outer_ends_(ends_) { ends_ = std::min(ends_, thread_cpu_time() + time); }

Brief::Scope::Scope(lua_State* L, Duration time) noexcept
    : limit_(time), state_(L), hook_(lua_gethook(L)), mask_(lua_gethookmask(L)), count_(lua_gethookcount(L)) {
  lua_sethook(L, on_hook, LUA_MASKCOUNT, kInstructionsToLook);
}

int Brief::resume(lua_State* L, lua_State* from, int arguments) noexcept {
  const Scope scope(L, kSecond);
  const int status = lua_resume(L, from, arguments);
  if (check() != nullptr) lua_sethook(from, on_hook, LUA_MASKCOUNT, 1);  // or it would resume others
  return status;
}

const char* Brief::check() noexcept { return thread_cpu_time() < ends_ ? nullptr : "it takes too long"; }

void Brief::on_hook(lua_State* L, lua_Debug* /*where*/) {
  const char* ends = check();
  if (ends == nullptr) return;
  lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);  // for whoever catches the error
  raise_past_handler(L, ends);
}

}  // namespace evlua::lua
