// The hooks that debug.sethook has set in coroutines where ours is in their place for a few instructions.
//
// Of a Vm and not of a thread, since such a coroutine may go on elsewhere. Used on the strand, and by signal handlers
// that interrupt it there: those touch a coroutine only while our hook is not set in it.
#pragma once

#include <lua.hpp>

#include <array>

namespace evlua::lua {

class SetHooks {
 public:
  /// Keeps the hook of L; false if there is no room.
  bool keep(lua_State* L) noexcept {
    Kept* place = find(L);
    if (place == nullptr) place = find(nullptr);
    if (place == nullptr) return false;
    *place = {L, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)};
    return true;
  }

  /// Sets the hook that L had: none, if none was kept.
  void give_back(lua_State* L) noexcept {
    Kept hook;
    if (Kept* place = find(L)) {
      hook = *place;
      place->state = nullptr;  // before the hook is set: from then on it may be kept again
    }
    lua_sethook(L, hook.function, hook.mask, hook.count);
  }

 private:
  struct Kept {
    lua_State* state = nullptr;
    lua_Hook function = nullptr;
    int mask = 0;
    int count = 0;
  };

  Kept* find(const lua_State* L) noexcept {
    for (Kept& kept : kept_) {
      if (kept.state == L) return &kept;
    }
    return nullptr;
  }

  std::array<Kept, 8> kept_;
};

}  // namespace evlua::lua
