// The hooks that the program has set in coroutines, by debug.sethook or a C module, where they are away: ours is in
// their place for a few instructions, or their own function runs, in which they are not called.
//
// Of a Vm and not of a thread, since such a coroutine may go on elsewhere. Used on the strand, and by signal handlers
// that interrupt it there: those touch a coroutine only while our hook is not set in it, and nothing while `busy`.
#pragma once

#include <lua.hpp>

#include <algorithm>
#include <array>
#include <atomic>

namespace evlua::lua {

// Compiled with Lua (cmake/lua/hooks.c).
extern "C" {
int evlua_hook_left(const lua_State* L);
void evlua_put_hook(lua_State* L, lua_Hook function, int mask, int count, int left);
const void* evlua_last_place(const lua_State* L);
void evlua_hook_has_yielded(lua_State* L, int left, const void* last_place);
}

class SetHooks {
 public:
  struct Hook {
    lua_State* state = nullptr;
    lua_Hook function = nullptr;
    int mask = 0;
    int count = 0;
    int left = 0;
    bool runs = false;  // its function; the rest of it is still in the coroutine, unless ours is there
  };

  /// `ours` is the hook of time slices.
  explicit SetHooks(lua_Hook ours) noexcept : ours_(ours) {}

  /// A signal handler must not change hooks now.
  bool busy() const noexcept { return busy_.load(std::memory_order_relaxed); }

  /// Ours takes the place of the hook that L has, if any, and is called in `count` instructions; and for all that the
  /// other is to be called for, as Lua only keeps track of lines while there is a hook for them. Where the room for
  /// those is full, it is lost: so many coroutines inside each other, all with hooks, are nobody's debugger.
  void replace(lua_State* L, int count) noexcept {
    const Busy busy(busy_);
    if (lua_gethook(L) != ours_) keep(L);
    evlua_put_hook(L, ours_, lua_gethookmask(L) | LUA_MASKCOUNT, count, count);
  }

  /// Lua had looked at the mask when a signal set ours, and then counted past it: it would never be called.
  void remind(lua_State* L) noexcept {
    const Busy busy(busy_);
    if (evlua_hook_left(L) <= 0) evlua_put_hook(L, ours_, lua_gethookmask(L), lua_gethookcount(L), 1);
  }

  /// L has no hook until what it had is given back.
  void take_away(lua_State* L) noexcept {
    const Busy busy(busy_);
    if (lua_gethook(L) != ours_) keep(L);
    put(L, nullptr, hook_of(L));
  }

  /// Sets the hook that L had, or none, as if `passed` instructions had been seen by it.
  void give_back(lua_State* L, int passed) noexcept {
    const Busy busy(busy_);
    Hook* place = find(L);
    Hook hook = place != nullptr ? *place : Hook{};
    hook.left = std::max(hook.left - passed, 1);
    put(L, hook.runs ? nullptr : hook.function, hook);
    if (place != nullptr && !place->runs) place->state = nullptr;
  }

  /// Instructions until the hook is called that L has, or had before ours took its place.
  int left(lua_State* L) noexcept {
    const Busy busy(busy_);
    const Hook* kept = lua_gethook(L) == ours_ ? find(L) : nullptr;
    return kept != nullptr ? kept->left : evlua_hook_left(L);
  }

  /// The program's hook, wherever it is now.
  Hook get(lua_State* L) noexcept {
    const Busy busy(busy_);
    const Hook* kept = find(L);
    const Hook there = hook_of(L);
    if (there.function == ours_) return kept != nullptr ? *kept : Hook{};
    if (kept == nullptr) return there;
    return {L, kept->function, there.mask, there.count, there.left, kept->runs};
  }

  /// As lua_sethook, for the program: ours stays, and the function that runs now is not called in itself.
  void set(lua_State* L, lua_Hook function, int mask, int count) noexcept {
    const Busy busy(busy_);
    const Hook before = hook_of(L);
    lua_sethook(L, function, mask, count);
    Hook* place = find(L);
    const bool runs = place != nullptr && place->runs;
    if (before.function != ours_ && !runs) return;
    if (place == nullptr) place = find(nullptr);
    if (place != nullptr) {
      *place = hook_of(L);
      place->runs = runs;
      if (!runs && place->function == nullptr) place->state = nullptr;
    }
    if (before.function == ours_) {
      evlua_put_hook(L, ours_, lua_gethookmask(L) | LUA_MASKCOUNT, before.count, before.left);
    } else {
      put(L, nullptr, hook_of(L));
    }
  }

  /// Calls the hook that ours is in the place of.
  void call(lua_State* L, lua_Debug* where) {
    const Hook* kept = find(L);
    if (kept != nullptr && !kept->runs) kept->function(L, where);
  }

  /// The hook of L, which calls this, is not called until end_call; but others may be. False: there is no room.
  bool begin_call(lua_State* L) noexcept {
    const Busy busy(busy_);
    Hook* place = find(L);
    if (place == nullptr) {
      place = find(nullptr);
      if (place == nullptr) return false;
      *place = hook_of(L);
    }
    place->runs = true;
    if (lua_gethook(L) != ours_) put(L, nullptr, hook_of(L));
    return true;
  }

  void end_call(lua_State* L) noexcept {
    const Busy busy(busy_);
    Hook* place = find(L);
    if (place == nullptr) return;
    place->runs = false;
    if (lua_gethook(L) == ours_ && place->function != nullptr) return;
    if (lua_gethook(L) == nullptr) put(L, place->function, hook_of(L));
    place->state = nullptr;
  }

  static Hook hook_of(lua_State* L) noexcept {
    return {L, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L), evlua_hook_left(L)};
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

  static void put(lua_State* L, lua_Hook function, const Hook& hook) noexcept {
    evlua_put_hook(L, function, hook.mask, hook.count, hook.left);
  }

  void keep(lua_State* L) noexcept {
    Hook* place = find(L);
    const bool runs = place != nullptr && place->runs;
    const lua_Hook function = runs ? place->function : lua_gethook(L);
    if (function == nullptr && !runs) return;
    if (place == nullptr) place = find(nullptr);
    if (place == nullptr) return;
    *place = hook_of(L);
    place->function = function;
    place->runs = runs;
  }

  Hook* find(const lua_State* L) noexcept {
    for (Hook& kept : kept_) {
      if (kept.state == L) return &kept;
    }
    return nullptr;
  }

  const lua_Hook ours_;
  std::atomic<bool> busy_{false};
  std::array<Hook, 8> kept_;
};

}  // namespace evlua::lua
