// The hooks that debug.sethook has set in coroutines where ours is in their place for a few instructions.
//
// Of a Vm and not of a thread, since such a coroutine may go on elsewhere. Used on the strand, and by signal handlers
// that interrupt it there: those touch a coroutine only while our hook is not set in it, and nothing while `busy`.
#pragma once

#include <lua.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

namespace evlua::lua {

// Compiled with Lua (cmake/lua/hooks.c).
extern "C" int evlua_hook_left(const lua_State* L);
extern "C" void evlua_set_hook_left(lua_State* L, int left);
extern "C" void evlua_hook_has_yielded(lua_State* L, int left);

class SetHooks {
 public:
  struct Hook {
    lua_State* state = nullptr;
    lua_Hook function = nullptr;
    int mask = 0;
    int count = 0;
    int left = 0;
  };

  /// A signal handler must not change hooks now.
  bool busy() const noexcept { return busy_.load(std::memory_order_relaxed); }

  /// `ours` takes the place of the hook that L has, if any. Where the place for those is full, it is lost: so many
  /// coroutines inside each other, all with hooks, are nobody's debugger.
  void replace(lua_State* L, lua_Hook ours, int count) noexcept {
    const Busy busy(busy_);
    keep(L);
    lua_sethook(L, ours, LUA_MASKCOUNT, count);
  }

  /// L has no hook until what it had is given back; that is kept already if `ours` is in its place.
  void take_away(lua_State* L, lua_Hook ours) noexcept {
    const Busy busy(busy_);
    if (lua_gethook(L) != ours) keep(L);
    lua_sethook(L, nullptr, 0, 0);
  }

  /// Sets another hook, and returns the one that L had: that of the program, where one that `is_ours` is in its place.
  Hook exchange(lua_State* L, bool (*is_ours)(lua_Hook), lua_Hook other, int count) noexcept {
    const Busy busy(busy_);
    Hook had = hook_of(L);
    if (is_ours(had.function)) {
      had = Hook{};
      if (Hook* place = find(L)) had = std::exchange(*place, Hook{});
    }
    lua_sethook(L, other, LUA_MASKCOUNT, count);
    return had;
  }

  /// Calls the hook that ours is in the place of.
  void call(lua_State* L, lua_Debug* where) {
    const Hook* kept = find(L);
    if (kept != nullptr) kept->function(L, where);
  }

  /// Sets the hook that L had, or none, as if `passed` instructions had been seen by it.
  void give_back(lua_State* L, int passed) noexcept {
    const Busy busy(busy_);
    Hook hook;
    if (Hook* place = find(L)) {
      hook = *place;
      place->state = nullptr;
    }
    lua_sethook(L, hook.function, hook.mask, hook.count);
    if ((hook.mask & LUA_MASKCOUNT) != 0) evlua_set_hook_left(L, std::max(hook.left - passed, 1));
  }

  /// Sets that hook in L and forgets what `ours` is in the place of.
  void set(lua_State* L, lua_Hook function, int mask, int count, int left) noexcept {
    const Busy busy(busy_);
    if (Hook* place = find(L)) place->state = nullptr;
    lua_sethook(L, function, mask, count);
    if ((mask & LUA_MASKCOUNT) != 0) evlua_set_hook_left(L, left);
  }

  /// Instructions until the hook is called that L has, or had before `ours` took its place.
  int left(lua_State* L, lua_Hook ours) noexcept {
    const Busy busy(busy_);
    const Hook* kept = lua_gethook(L) == ours ? find(L) : nullptr;
    return kept != nullptr ? kept->left : evlua_hook_left(L);
  }

 private:
  struct Busy {
    explicit Busy(std::atomic<bool>& flag) : busy(flag) {
      busy.store(true, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    ~Busy() {
      std::atomic_signal_fence(std::memory_order_seq_cst);
      busy.store(false, std::memory_order_relaxed);
    }
    std::atomic<bool>& busy;
  };

  void keep(lua_State* L) noexcept {
    if (lua_gethook(L) == nullptr) return;
    if (Hook* place = find(nullptr)) *place = hook_of(L);
  }

  static Hook hook_of(lua_State* L) noexcept {
    return {L, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L), evlua_hook_left(L)};
  }

  Hook* find(const lua_State* L) noexcept {
    for (Hook& kept : kept_) {
      if (kept.state == L) return &kept;
    }
    return nullptr;
  }

  std::atomic<bool> busy_{false};
  std::array<Hook, 8> kept_;
};

}  // namespace evlua::lua
