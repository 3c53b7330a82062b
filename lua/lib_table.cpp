// table.concat, insert, move, remove and unpack: stock, unless metamethods of the table are functions. These may wait.
// What moves very many elements is done in Lua too: nothing ends a loop in C, not a limit of time either.
#include <lua.hpp>

#include <array>
#include <climits>
#include <cstddef>
#include <mutex>
#include <utility>

#include "lua/callbacks.h"
#include "lua/modules.h"

namespace evlua::lua {

namespace {

struct TableFunction {
  const char* name;
  unsigned events;  // what it does to its first argument
  bool demands;     // it takes other values than tables only if they have metamethods for all of that
  lua_CFunction stock = nullptr;
};

std::array<TableFunction, 5> functions{{
    {"concat", kReads | kLength, true},
    {"insert", kReads | kWrites | kLength, true},
    {"move", 0, true},
    {"remove", kReads | kWrites | kLength, true},
    {"unpack", kReads | kLength, false},
}};

bool has_event(lua_State* L, int index, const char* event) {
  if (luaL_getmetafield(L, index, event) == LUA_TNIL) return false;
  lua_pop(L, 1);
  return true;
}

/// A table, or what has metamethods for all of `events`.
bool is_like_table(lua_State* L, int index, unsigned events) {
  return lua_type(L, index) == LUA_TTABLE || (((events & kReads) == 0 || has_event(L, index, "__index")) &&
                                              ((events & kWrites) == 0 || has_event(L, index, "__newindex")) &&
                                              ((events & kLength) == 0 || has_event(L, index, "__len")));
}

/// The twin has returned true and results, or false and the arguments for the stock function.
int finish(lua_State* L, int, lua_KContext which) {
  const bool done = lua_toboolean(L, 1) != 0;
  lua_remove(L, 1);
  return done ? lua_gettop(L) : functions[static_cast<std::size_t>(which)].stock(L);
}

/// Upvalue: the twin.
int call_twin(lua_State* L, std::size_t which) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  const auto context = static_cast<lua_KContext>(which);
  lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, context, finish);
  return finish(L, LUA_OK, context);
}

constexpr lua_Unsigned kManyElements = 1 << 18;

bool far_apart(lua_Integer first, lua_Integer last) noexcept {
  return last > first && static_cast<lua_Unsigned>(last) - static_cast<lua_Unsigned>(first) > kManyElements;
}

/// Whether insert or remove has very many elements to move: those behind the second of `arguments`.
bool moves_many(lua_State* L, int arguments) noexcept {
  if (lua_gettop(L) < arguments || lua_type(L, 1) != LUA_TTABLE) return false;
  const lua_Unsigned size = lua_rawlen(L, 1);
  if (size <= kManyElements) [[likely]]
    return false;
  int is_integer = 0;
  const lua_Integer place = lua_tointegerx(L, 2, &is_integer);
  return is_integer != 0 && far_apart(place, static_cast<lua_Integer>(size));
}

constexpr std::size_t kInsert = 1;
constexpr std::size_t kRemove = 3;

template <std::size_t which>
int call(lua_State* L) {
  const TableFunction& function = functions[which];
  if (!access_calls(L, 1, function.events)) [[likely]] {
    if constexpr (which == kInsert || which == kRemove) {
      if (moves_many(L, which == kInsert ? 3 : 2)) [[unlikely]]
        return call_twin(L, which);
    }
    return function.stock(L);
  }
  if (function.demands && !is_like_table(L, 1, function.events)) return function.stock(L);  // which raises
  return call_twin(L, which);
}

/// move reads from one table and may write to another.
constexpr std::size_t kMove = 2;
template <>
int call<kMove>(lua_State* L) {
  const int to = lua_gettop(L) < 5 || lua_isnil(L, 5) ? 1 : 5;
  const bool calls =
      to == 1 ? access_calls(L, 1, kReads | kWrites) : access_calls(L, 1, kReads) || access_calls(L, to, kWrites);
  const bool many = lua_gettop(L) >= 4 && far_apart(lua_tointeger(L, 2), lua_tointeger(L, 3));
  if ((!calls && !many) || !is_like_table(L, 1, kReads) || !is_like_table(L, to, kWrites))
    return functions[kMove].stock(L);
  return call_twin(L, kMove);
}

/// As the stock one; where there is no __len it does not take long to ask for the length.
constexpr std::size_t kUnpack = 4;
template <>
int call<kUnpack>(lua_State* L) {
  if (access_calls(L, 1, kReads | kLength)) return call_twin(L, kUnpack);
  if (lua_type(L, 1) != LUA_TTABLE) return functions[kUnpack].stock(L);
  lua_Integer i = luaL_optinteger(L, 2, 1);
  const lua_Integer last = luaL_opt(L, luaL_checkinteger, 3, static_cast<lua_Integer>(lua_rawlen(L, 1)));
  if (i > last) return 0;
  const auto count = static_cast<lua_Unsigned>(last) - static_cast<lua_Unsigned>(i);  // and one
  if (count >= static_cast<unsigned>(INT_MAX) || lua_checkstack(L, static_cast<int>(count + 1)) == 0) {
    return luaL_error(L, "too many results to unpack");
  }
  for (; i < last; ++i) lua_geti(L, 1, i);
  lua_geti(L, 1, last);
  return static_cast<int>(count + 1);
}

}  // namespace

int open_table(lua_State* L) {
  static std::once_flag once;
  std::call_once(once, [L] {  // the same in every state
    for (TableFunction& function : functions) {
      lua_getfield(L, -1, function.name);
      function.stock = lua_tocfunction(L, -1);
      lua_pop(L, 1);
    }
  });
  constexpr lua_CFunction ours[] = {call<0>, call<1>, call<2>, call<3>, call<4>};
  for (std::size_t i = 0; i < functions.size(); ++i) {
    push_waiting(L, functions[i].name);
    lua_pushcclosure(L, ours[i], 1);
    lua_setfield(L, -2, functions[i].name);
  }
  return 0;
}

}  // namespace evlua::lua
