// Goal: a Lua state whose memory is limited collects its garbage in small steps before the limit is reached, however
// much of it is in use, and does as stock Lua does, or as the program has asked, where there is room enough.
#include "lua/gc_pace.h"

#include <cstdlib>
#include <memory>

#include "tests/support/doctest.h"

namespace evlua::lua {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kMax = 16 * kMiB;

struct State {
  State() : lua(lua_newstate(&State::allocate, this), &lua_close) { luaL_openlibs(lua.get()); }

  static void* allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) {
    auto& state = *static_cast<State*>(self);
    state.used += new_size - (block != nullptr ? old_size : 0);
    if (state.used > state.peak) state.peak = state.used;
    if (new_size != 0) return std::realloc(block, new_size);
    std::free(block);
    return nullptr;
  }
  void run(const char* code) { REQUIRE(luaL_dostring(lua.get(), code) == LUA_OK); }
  int pause() { return ask(LUA_GCSETPAUSE); }
  int speed() { return ask(LUA_GCSETSTEPMUL); }
  int ask(int what) {
    const int found = lua_gc(lua.get(), what, 100);
    (void)lua_gc(lua.get(), what, found);
    return found;
  }

  std::size_t used = 0;
  std::size_t peak = 0;
  std::unique_ptr<lua_State, void (*)(lua_State*)> lua;
};

/// Keeps `live` bytes of small tables, and makes and drops much more than the limit.
std::size_t peak_of(std::size_t live, std::size_t max) {
  State state;
  GcPace pace(max);
  state.run(
      "kept = {} function keep() for _ = 1, 50 do kept[#kept + 1] = {1, 2} end end "
      "function churn() for i = 1, 50 do local _ = {i, 2} end end");
  while (state.used < live) {
    state.run("keep()");
    pace.look(state.lua.get(), state.used);
  }
  state.peak = 0;
  for (int i = 0; i < 4000; ++i) {
    state.run("churn()");
    pace.look(state.lua.get(), state.used);
  }
  return state.peak;
}

TEST_CASE("the limit is not reached by garbage") {
  for (const std::size_t live : {8U, 10U, 12U, 13U}) {
    CAPTURE(live);
    CHECK(peak_of(live * kMiB, kMax) < kMax);
  }
  CHECK(peak_of(10 * kMiB, 0) > kMax);  // as it would be otherwise
}

TEST_CASE("far from the limit the settings are Lua's") {
  State state;
  GcPace pace(kMax);
  const int pause = state.pause();
  const int speed = state.speed();
  pace.look(state.lua.get(), kMax / 8);
  CHECK(state.pause() == pause);
  pace.look(state.lua.get(), kMax / 2);
  CHECK(state.pause() < pause);
  CHECK(state.speed() > speed);
  pace.look(state.lua.get(), kMax / 8);
  CHECK(state.pause() == pause);
  CHECK(state.speed() == speed);
}

TEST_CASE("a program may ask for more, and gets its own settings back") {
  State state;
  GcPace pace(kMax);
  pace.look(state.lua.get(), kMax / 2);
  const int speed = state.speed();
  state.run("collectgarbage('setpause', 101) collectgarbage('setstepmul', 5000)");
  pace.look(state.lua.get(), kMax / 2);
  pace.look(state.lua.get(), kMax / 2);
  CHECK(state.pause() == 101);
  CHECK(state.speed() == 5000);
  state.run("collectgarbage('setstepmul', 100)");
  pace.look(state.lua.get(), kMax / 2);
  CHECK(state.speed() == speed);
  pace.look(state.lua.get(), 0);
  CHECK(state.pause() == 101);
  CHECK(state.speed() == 100);
}

TEST_CASE("what a program saves and gives back are its own settings") {
  State state;
  GcPace pace(kMax);
  const auto set = [&](int what, int value) { return pace.set_for_program(state.lua.get(), what, value); };
  const int pause = state.pause();
  const int speed = state.speed();
  pace.look(state.lua.get(), kMax / 2);
  const int saved_pause = set(LUA_GCSETPAUSE, 1000);
  const int saved_speed = set(LUA_GCSETSTEPMUL, 1);
  CHECK(saved_pause == pause);
  CHECK(saved_speed == speed);
  pace.look(state.lua.get(), kMax / 2 + kMax / 4);
  CHECK(set(LUA_GCSETPAUSE, saved_pause) == 1000);
  CHECK(set(LUA_GCSETSTEPMUL, saved_speed) == 40);  // the least that Lua takes
  CHECK(state.pause() < pause);
  pace.look(state.lua.get(), 0);
  CHECK(state.pause() == pause);
  CHECK(state.speed() == speed);
  CHECK(set(LUA_GCSETPAUSE, 150) == pause);
  CHECK(state.pause() == 150);
}

TEST_CASE("beyond the limit it is as fast as just below") {
  State state;
  GcPace pace(kMax);
  pace.look(state.lua.get(), kMax);
  const int speed = state.speed();
  pace.look(state.lua.get(), 100 * kMax);
  CHECK(state.speed() == speed);
  CHECK(state.pause() >= 100);
}

}  // namespace
}  // namespace evlua::lua
