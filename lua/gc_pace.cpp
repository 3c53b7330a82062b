#include "lua/gc_pace.h"

#include <algorithm>
#include <cstdint>

namespace evlua::lua {

namespace {

// Parts of the limit.
constexpr std::size_t kBelow = 4;   // a fourth: what is done up to there is Lua's own affair
constexpr std::size_t kSpare = 16;  // lies idle in the allocator's pages
constexpr std::size_t kRoom = 64;   // when no more is left the pace is the fastest
// A cycle that looks at a byte for each that is used, as it roughly does, takes a third of the room.
constexpr std::size_t kSpeed = std::size_t{200} * 3;

}  // namespace

GcPace::GcPace(std::size_t memory_max) noexcept
    : max_(memory_max), from_(memory_max != 0 ? memory_max / kBelow : SIZE_MAX) {}

void GcPace::set(lua_State* L, std::size_t used) noexcept {
  note_program(L, LUA_GCSETPAUSE, pause_);
  note_program(L, LUA_GCSETSTEPMUL, speed_);
  if (used < from_) {
    change(L, LUA_GCSETPAUSE, pause_, pause_.of_program);
    change(L, LUA_GCSETSTEPMUL, speed_, speed_.of_program);
    pause_.current = speed_.current = kUnset;
    return;
  }
  // A cycle begins when half of the room is taken that was there after the last one.
  const std::size_t bound = max_ - max_ / kSpare;
  const std::size_t room = std::max(bound - std::min(used, bound), max_ / kRoom);
  const auto pause = static_cast<int>(100 + 50 * room / used);
  const auto speed = static_cast<int>(kSpeed * std::min(used, max_) / room);
  change(L, LUA_GCSETPAUSE, pause_, std::min(pause, pause_.of_program));
  change(L, LUA_GCSETSTEPMUL, speed_, std::max(speed, speed_.of_program));
}

int GcPace::set_for_program(lua_State* L, int what, int value) noexcept {
  Setting& setting = what == LUA_GCSETPAUSE ? pause_ : speed_;
  if (setting.current == kUnset) return lua_gc(L, what, value);
  note_program(L, what, setting);
  const int former = setting.of_program;
  (void)lua_gc(L, what, value);
  setting.of_program = lua_gc(L, what, setting.current);  // Lua has bounds for it
  return former;
}

/// Who has changed it meanwhile is C code of the program.
void GcPace::note_program(lua_State* L, int what, Setting& setting) noexcept {
  const int found = lua_gc(L, what, setting.current);  // tells what it was
  if (found != setting.current) setting.of_program = found;
}

void GcPace::change(lua_State* L, int what, Setting& setting, int value) noexcept {
  (void)lua_gc(L, what, value);
  setting.current = value;
}

}  // namespace evlua::lua
