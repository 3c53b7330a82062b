// table.concat, insert, move, remove and unpack: stock, unless metamethods of the table are functions. These may wait.
// But a table whose holes make it look far longer than it is, or a range in which hardly anything is, would keep stock
// insert, remove and move for ever, and nothing ends a loop in C, not a limit of time either. There the loop is ours,
// and looks at the limits now and then. Where as many elements can be, it ends of itself: none of them is moved alone.
#include <lua.hpp>

#include <array>
#include <climits>
#include <cstddef>
#include <mutex>
#include <utility>

#include "lua/callbacks.h"
#include "lua/long_call.h"
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

/// Whether the state has no room for as many elements, so that most of them are nil.
bool are_mostly_nil(lua_State* L, lua_Integer count) noexcept {
  constexpr lua_Integer kFew = 1 << 18;
  constexpr lua_Integer kElementsInKiB = 1024 / 16;
  return count > kFew && count / kElementsInKiB > lua_gc(L, LUA_GCCOUNT, 0);
}

/// A range of integer keys of the value at `index`.
struct Range {
  int index;
  lua_Integer first;
};

/// Begins with the last one, or with the first.
void move_range(lua_State* L, Range from, Range to, lua_Integer count, bool last_first) {
  constexpr lua_Integer kBetweenLooks = 1 << 16;
  for (lua_Integer i = 0; i < count; ++i) {
    const char* ends = i % kBetweenLooks == 0 ? look_at_limits() : nullptr;
    if (ends != nullptr) luaL_error(L, "%s", ends);
    const lua_Integer offset = last_first ? count - 1 - i : i;
    lua_geti(L, from.index, from.first + offset);
    lua_seti(L, to.index, to.first + offset);
  }
}

/// How many elements stand behind the place that insert and remove are given, if most of them are nil; or else 0.
lua_Integer nils_behind_place(lua_State* L) {
  const lua_Unsigned size = lua_type(L, 1) == LUA_TTABLE ? lua_rawlen(L, 1) : 0;
  const lua_Integer place = lua_tointeger(L, 2);
  if (place < 1 || size <= static_cast<lua_Unsigned>(place)) return 0;
  const lua_Integer count = static_cast<lua_Integer>(size) - place;
  return are_mostly_nil(L, count) && !has_event(L, 1, "__len") ? count : 0;
}

int insert_among_nils(lua_State* L, lua_Integer behind) {
  const lua_Integer place = lua_tointeger(L, 2);
  move_range(L, {1, place}, {1, place + 1}, behind + 1, true);
  lua_seti(L, 1, place);
  return 0;
}

int remove_among_nils(lua_State* L, lua_Integer behind) {
  const lua_Integer place = lua_tointeger(L, 2);
  lua_geti(L, 1, place);
  move_range(L, {1, place + 1}, {1, place}, behind, false);
  lua_pushnil(L);
  lua_seti(L, 1, place + behind);
  return 1;
}

constexpr std::size_t kInsert = 1;
constexpr std::size_t kRemove = 3;

template <std::size_t which>
int call(lua_State* L) {
  const TableFunction& function = functions[which];
  if (!access_calls(L, 1, function.events)) [[likely]] {
    if constexpr (which == kInsert || which == kRemove) {
      const bool has_place = which == kInsert ? lua_gettop(L) == 3 : lua_gettop(L) >= 2;
      const lua_Integer nils = has_place ? nils_behind_place(L) : 0;
      if (nils != 0) [[unlikely]]
        return which == kInsert ? insert_among_nils(L, nils) : remove_among_nils(L, nils);
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
  if (!is_like_table(L, 1, kReads) || !is_like_table(L, to, kWrites)) return functions[kMove].stock(L);
  if (calls) return call_twin(L, kMove);
  // What is no integer, or does not fit, is for the stock function to complain of.
  int are_integers[3] = {};
  const lua_Integer first = lua_tointegerx(L, 2, &are_integers[0]);
  const lua_Integer last = lua_tointegerx(L, 3, &are_integers[1]);
  const lua_Integer place = lua_tointegerx(L, 4, &are_integers[2]);
  const bool is_range = are_integers[0] != 0 && are_integers[1] != 0 && are_integers[2] != 0 && last >= first &&
                        (first > 0 || last < LUA_MAXINTEGER + first);
  if (!is_range || place > LUA_MAXINTEGER - (last - first) || !are_mostly_nil(L, last - first)) {
    return functions[kMove].stock(L);
  }
  const bool overlaps = place > first && place <= last && (to == 1 || lua_compare(L, 1, to, LUA_OPEQ) != 0);
  move_range(L, {1, first}, {to, place}, last - first + 1, overlaps);
  lua_pushvalue(L, to);
  return 1;
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
