// GcPace: the collector of a Lua state keeps ahead of the limit of its memory.
//
// Left alone, Lua begins to collect when what it holds has doubled, and then goes on as slowly as memory is taken.
// Where a third of the limit is in use that is too late: the limit is reached, and Lua collects everything at once, for
// which all that the state serves must wait. So the more is in use, the sooner and faster it shall collect, in the
// small steps that are taken as memory is.
#pragma once

#include <lua.hpp>

#include <cstddef>

namespace evlua::lua {

/// [strand]
class GcPace {
 public:
  /// `memory_max` of 0: no limit, and nothing to do.
  explicit GcPace(std::size_t memory_max) noexcept;

  /// To be called again and again, as `used` changes. Raises no error and allocates nothing.
  void look(lua_State* L, std::size_t used) noexcept {
    if (used >= from_ || pause_.current != kUnset) [[unlikely]]
      set(L, used);
  }
  /// LUA_GCSETPAUSE or LUA_GCSETSTEPMUL by the program: returns what it had set before, and not what holds meanwhile.
  int set_for_program(lua_State* L, int what, int value) noexcept;

 private:
  static constexpr int kUnset = -1;
  /// Programs may ask for more, and get their own back.
  struct Setting {
    int current = kUnset;  // by us
    int of_program = 0;
  };

  void set(lua_State* L, std::size_t used) noexcept;
  static void note_program(lua_State* L, int what, Setting& setting) noexcept;
  static void change(lua_State* L, int what, Setting& setting, int value) noexcept;

  const std::size_t max_;
  const std::size_t from_;
  Setting pause_;  // the next cycle begins at that many percent of what one has left
  Setting speed_;  // 200: a byte is looked at for each that is taken
};

}  // namespace evlua::lua
