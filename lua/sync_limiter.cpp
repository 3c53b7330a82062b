// A rate limiter: a bucket that fills with tokens at some rate, up to its size. Who waits has taken its tokens already,
// in advance, and sleeps until they would have been there; so turns are in order, and no line is needed.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "lua/stack.h"
#include "lua/sync.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kType = "evlua.limiter";

struct Limiter {
  double rate = 0;    // tokens a second
  double burst = 0;   // the most there can be
  double tokens = 0;  // below zero: taken in advance
  Instant filled = 0;

  void fill(Instant now) noexcept {
    tokens = std::min(burst, tokens + static_cast<double>(now - filled) * rate / 1e9);
    filled = now;
  }
};

struct LimiterWait : OpWait {
  /// `taken`: how many tokens are taken already; 0: they will not be there in time.
  LimiterWait(Instant until, Limiter& of, double taken_before)
      : OpWait(OpCode::sleep, -1, until), limiter(of), taken(taken_before) {
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<LimiterWait&>(self);
      const bool slept = wait.outcome() >= 0;
      if (slept && wait.taken > 0) {
        lua_pushboolean(L, 1);
        return 1;
      }
      wait.limiter.tokens = std::min(wait.limiter.burst, wait.limiter.tokens + wait.taken);
      return push_wait_failure(L, Error{slept ? ETIMEDOUT : ECANCELED, ErrorDomain::system, OpCode::task});
    };
  }

  Limiter& limiter;
  const double taken;
};

Limiter& check_limiter(lua_State* L) { return *static_cast<Limiter*>(check_object(L, 1, kType)); }

double check_tokens(lua_State* L, const Limiter& limiter) {
  if (lua_isnoneornil(L, 2)) return 1;
  const double tokens = luaL_checknumber(L, 2);
  if (!(tokens > 0 && tokens <= limiter.burst)) {
    luaL_argerror(L, 2, lua_pushfstring(L, "a number above 0, up to the burst (%f), expected", limiter.burst));
  }
  return tokens;
}

bool take(Limiter& limiter, double tokens) noexcept {
  limiter.fill(Worker::current().backend().now());
  if (limiter.tokens < tokens) return false;
  limiter.tokens -= tokens;
  return true;
}

/// wait([n = 1][, {timeout}])
int wait(lua_State* L) {
  Limiter& limiter = check_limiter(L);
  if (lua_istable(L, 2)) {
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  const double tokens = check_tokens(L, limiter);
  const Instant deadline = check_options(L, 3, {"timeout"}) ? option_deadline(L, 3) : kNever;
  if (take(limiter, tokens)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  const Instant due = deadline_after(limiter.filled, duration_from_seconds((tokens - limiter.tokens) / limiter.rate));
  if (deadline < due) return suspend<LimiterWait>(L, deadline, limiter, 0.0);
  Fiber& fiber = fiber_to_wait(L);
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) return refuse_wait(L, fiber);
  limiter.tokens -= tokens;
  return suspend<LimiterWait>(L, due, limiter, tokens);
}

/// try([n = 1])
int try_take(lua_State* L) {
  Limiter& limiter = check_limiter(L);
  lua_pushboolean(L, take(limiter, check_tokens(L, limiter)) ? 1 : 0);
  return 1;
}

int to_string(lua_State* L) {
  const Limiter& limiter = check_limiter(L);
  lua_pushfstring(L, "limiter (%f a second, up to %f): %p", limiter.rate, limiter.burst, lua_topointer(L, 1));
  return 1;
}

}  // namespace

/// limiter{rate = tokens a second[, burst = 1]}
int make_limiter(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  (void)check_options(L, 1, {"rate", "burst"});
  const double rate = option_number(L, 1, "rate", 0);
  const double burst = option_number(L, 1, "burst", 1);
  luaL_argcheck(L, rate > 0 && std::isfinite(rate), 1, "option 'rate': a number above 0 expected");
  luaL_argcheck(L, burst >= 1 && std::isfinite(burst), 1, "option 'burst': a number from 1 on expected");
  auto* limiter = new (lua_newuserdata(L, sizeof(Limiter))) Limiter;
  luaL_setmetatable(L, kType);
  limiter->rate = rate;
  limiter->burst = limiter->tokens = burst;
  limiter->filled = Worker::current().backend().now();
  return 1;
}

void define_limiter(lua_State* L) {
  const luaL_Reg methods[] = {{"wait", wait}, {"try", try_take}, {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", to_string}, {nullptr, nullptr}};
  define_type(L, kType, methods, meta);
}

}  // namespace evlua::lua
