// Random numbers: those of the kernel, for secrets, and math.random with a generator of the Vm's own.
//
// Stock Lua 5.3 takes random(3), which all Lua states of the process would share behind a lock, and which begins with
// the same numbers in every run.
#include <sys/random.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/check.h"
#include "lua/modules.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

constexpr lua_Integer kBytesMax = lua_Integer{1} << 20;

/// The kernel's generator; it waits only while a system that has just started has nothing random yet.
void fill_random(void* to, std::size_t size) noexcept {
  auto* bytes = static_cast<unsigned char*>(to);
  while (size > 0) {
    const ssize_t got = ::getrandom(bytes, size, 0);
    if (got < 0 && errno == EINTR) continue;
    EVLUA_CHECK(got > 0);
    bytes += got;
    size -= static_cast<std::size_t>(got);
  }
}

/// xoshiro256** (Blackman and Vigna), as in Lua 5.4.
struct Generator {
  std::array<std::uint64_t, 4> state;

  std::uint64_t next() noexcept {
    const std::uint64_t result = std::rotl(state[1] * 5, 7) * 9;
    const std::uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = std::rotl(state[3], 45);
    return result;
  }

  /// By splitmix64, so that near seeds begin far from each other.
  void seed(std::uint64_t from) noexcept {
    for (std::uint64_t& word : state) {
      from += 0x9E3779B97F4A7C15;
      std::uint64_t mixed = (from ^ from >> 30) * 0xBF58476D1CE4E5B9;
      mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB;
      word = mixed ^ mixed >> 31;
    }
  }

  /// 0 to `last`, each as likely as the others.
  std::uint64_t up_to(std::uint64_t last) noexcept {
    if (last == std::numeric_limits<std::uint64_t>::max()) return next();
    const std::uint64_t mask = std::numeric_limits<std::uint64_t>::max() >> std::countl_zero(last | 1);
    std::uint64_t drawn = next() & mask;
    while (drawn > last) drawn = next() & mask;
    return drawn;
  }
};

Generator& generator(lua_State* L) { return *static_cast<Generator*>(lua_touserdata(L, lua_upvalueindex(1))); }

int math_random(lua_State* L) {
  lua_Integer low = 1;
  lua_Integer high = 0;
  switch (lua_gettop(L)) {
    case 0: lua_pushnumber(L, static_cast<double>(generator(L).next() >> 11) * 0x1p-53); return 1;
    case 1: high = luaL_checkinteger(L, 1); break;
    case 2:
      low = luaL_checkinteger(L, 1);
      high = luaL_checkinteger(L, 2);
      break;
    default: return luaL_error(L, "wrong number of arguments");
  }
  luaL_argcheck(L, low <= high, lua_gettop(L), "interval is empty");
  luaL_argcheck(L, low >= 0 || high <= LUA_MAXINTEGER + low, lua_gettop(L), "interval too large");
  const auto size = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
  lua_pushinteger(L, static_cast<lua_Integer>(generator(L).up_to(size)) + low);
  return 1;
}

int math_randomseed(lua_State* L) {
  const lua_Number number = luaL_checknumber(L, 1);
  int is_integer = 0;
  lua_Integer seed = lua_tointegerx(L, 1, &is_integer);
  if (is_integer == 0) seed = std::bit_cast<lua_Integer>(number);
  generator(L).seed(static_cast<std::uint64_t>(seed));
  return 0;
}

}  // namespace

int open_random(lua_State* L) {
  auto* made = static_cast<Generator*>(lua_newuserdata(L, sizeof(Generator)));
  std::uint64_t seed = 0;
  fill_random(&seed, sizeof seed);
  made->seed(seed);
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, math_random, 1);
  lua_setfield(L, -3, "random");
  lua_pushcclosure(L, math_randomseed, 1);
  lua_setfield(L, -2, "randomseed");
  return 1;
}

int random_bytes(lua_State* L) {
  const auto size = static_cast<std::size_t>(check_range(L, 1, 0, kBytesMax));
  luaL_Buffer buffer;
  fill_random(luaL_buffinitsize(L, &buffer, size), size);
  luaL_pushresultsize(&buffer, size);
  return 1;
}

}  // namespace evlua::lua
