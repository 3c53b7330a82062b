// table.concat, insert, move, remove and unpack: stock, unless metamethods of the table are functions. These may wait:
// between two steps all there is to know is on the stack.
// But a table whose holes make it look far longer than it is, or a range in which hardly anything is, would keep stock
// insert, remove and move for ever, and nothing ends a loop in C, not a limit of time either. There the loop is ours,
// and looks at the limits now and then. Where as many elements can be, it ends of itself: none of them is moved alone.
#include <lua.hpp>

#include <array>
#include <climits>
#include <cstddef>
#include <mutex>
#include <new>

#include "lua/callbacks.h"
#include "lua/long_call.h"
#include "lua/modules.h"
#include "lua/spare.h"

namespace evlua::lua {

namespace {

struct TableFunction {
  const char* name;
  unsigned events;  // what it does to its first argument
  lua_CFunction stock = nullptr;
};

std::array<TableFunction, 5> functions{{
    {"concat", kReads | kLength},
    {"insert", kReads | kWrites | kLength},
    {"move", 0},
    {"remove", kReads | kWrites | kLength},
    {"unpack", kReads | kLength},
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

/// Whether the state has no room for as many elements, so that most of them are nil.
bool are_mostly_nil(lua_State* L, lua_Integer count) noexcept {
  constexpr lua_Integer kFew = 1 << 18;
  constexpr lua_Integer kElementsInKiB = 1024 / 16;
  return count > kFew && count / kElementsInKiB > lua_gc(L, LUA_GCCOUNT, 0);
}

/// Whether most of what stands behind the place that insert and remove are given is nil.
bool has_nils_behind_place(lua_State* L) {
  const lua_Unsigned size = lua_type(L, 1) == LUA_TTABLE ? lua_rawlen(L, 1) : 0;
  const lua_Integer place = lua_tointeger(L, 2);
  if (place < 1 || size <= static_cast<lua_Unsigned>(place)) return false;
  return are_mostly_nil(L, static_cast<lua_Integer>(size) - place);
}

// -- moving elements --------------------------------------------------------------------------------------------------

constexpr lua_Integer kBetweenLooks = 1 << 16;

// The stack of a call whose elements are being moved: as the arguments of table.move, and behind them:
constexpr int kFrom = 1;
constexpr int kTo = 5;
constexpr int kLastFirst = 6;
constexpr int kValue = 7;  // that is inserted, or has been removed

struct Move {
  lua_Integer first;
  lua_Integer last;
  lua_Integer place;
  bool last_first;

  lua_Integer count() const noexcept { return last - first + 1; }
  lua_Integer offset(lua_Integer step) const noexcept { return last_first ? last - first - step : step; }
};

/// REQUIRES: the stack has nothing but the list that is moved from, and a value.
void push_move(lua_State* L, const Move& move) {
  lua_pushinteger(L, move.first);
  lua_pushinteger(L, move.last);
  lua_pushinteger(L, move.place);
  lua_pushvalue(L, kFrom);
  lua_pushboolean(L, move.last_first ? 1 : 0);
  lua_rotate(L, 2, -1);
}

Move move_of_call(lua_State* L) {
  return {lua_tointeger(L, 2), lua_tointeger(L, 3), lua_tointeger(L, 4), lua_toboolean(L, kLastFirst) != 0};
}

using Finish = int(lua_State* L, const Move& move);

template <Finish* finish>
int move_rest(lua_State* L, const Move& move, lua_Integer step);

template <Finish* finish>
int continue_move(lua_State* L, int, lua_KContext step) {
  return move_rest<finish>(L, move_of_call(L), step + 1);
}

/// An element is on top.
template <Finish* finish>
int continue_with_element(lua_State* L, int, lua_KContext step) {
  const Move move = move_of_call(L);
  evlua_set_element(L, kTo, move.place + move.offset(step), step, continue_move<finish>);
  return move_rest<finish>(L, move, step + 1);
}

/// From that step on, and finishes the call.
template <Finish* finish>
int move_rest(lua_State* L, const Move& move, lua_Integer step) {
  for (; step < move.count(); ++step) {
    const lua_Integer offset = move.offset(step);
    evlua_get_element(L, kFrom, move.first + offset, step, continue_with_element<finish>);
    evlua_set_element(L, kTo, move.place + offset, step, continue_move<finish>);
    if (step % kBetweenLooks == kBetweenLooks - 1 && slice_is_over(L)) return give_way(L, step, continue_move<finish>);
  }
  return finish(L, move);
}

/// What is on top, as the length that luaL_len gives.
lua_Integer take_length(lua_State* L) {
  int is_integer = 0;
  const lua_Integer length = lua_tointegerx(L, -1, &is_integer);
  if (is_integer == 0) luaL_error(L, "object length is not an integer");
  lua_pop(L, 1);
  return length;
}

lua_Integer next_to(lua_Integer i) noexcept { return static_cast<lua_Integer>(static_cast<lua_Unsigned>(i) + 1); }

// -- insert -----------------------------------------------------------------------------------------------------------

int finish_insert(lua_State*, int, lua_KContext) { return 0; }

int insert_value(lua_State* L, const Move& move) {
  lua_pushvalue(L, kValue);
  evlua_set_element(L, kFrom, move.first, 0, finish_insert);
  return 0;
}

int insert_measured(lua_State* L, int, lua_KContext) {
  const lua_Integer end = next_to(take_length(L));
  const int arguments = lua_gettop(L);
  if (arguments == 2) {
    evlua_set_element(L, 1, end, 0, finish_insert);
    return 0;
  }
  if (arguments != 3) return luaL_error(L, "wrong number of arguments to 'insert'");
  const lua_Integer place = luaL_checkinteger(L, 2);
  luaL_argcheck(L, 1 <= place && place <= end, 2, "position out of bounds");
  const Move move{place, end - 1, next_to(place), true};
  lua_replace(L, 2);
  push_move(L, move);
  return move_rest<insert_value>(L, move, 0);
}

// -- remove -----------------------------------------------------------------------------------------------------------

int give_removed(lua_State*, int, lua_KContext) { return 1; }

int drop_last(lua_State* L, const Move& move) {
  lua_pushnil(L);
  evlua_set_element(L, kFrom, move.last, 0, give_removed);
  return 1;
}

/// Stack: list, length, what is removed.
int remove_found(lua_State* L, int, lua_KContext place) {
  const lua_Integer size = lua_tointeger(L, 2);
  if (place >= size) {
    lua_pushnil(L);
    evlua_set_element(L, kFrom, place, 0, give_removed);
    return 1;
  }
  const Move move{place + 1, size, place, false};
  lua_replace(L, 2);
  push_move(L, move);
  return move_rest<drop_last>(L, move, 0);
}

int remove_measured(lua_State* L, int, lua_KContext) {
  const lua_Integer size = take_length(L);
  const lua_Integer place = luaL_optinteger(L, 2, size);
  if (place != size) luaL_argcheck(L, 1 <= place && place <= next_to(size), 1, "position out of bounds");
  lua_settop(L, 1);
  lua_pushinteger(L, size);
  evlua_get_element(L, 1, place, place, remove_found);
  return remove_found(L, LUA_OK, place);
}

// -- move -------------------------------------------------------------------------------------------------------------

int give_target(lua_State* L, const Move&) {
  lua_pushvalue(L, kTo);
  return 1;
}

/// Whether both lists are the same is on top.
int move_compared(lua_State* L, int, lua_KContext) {
  const Move move = move_of_call(L);
  return move_rest<give_target>(L, move, 0);
}

int move_elements(lua_State* L) {
  const lua_Integer first = luaL_checkinteger(L, 2);
  const lua_Integer last = luaL_checkinteger(L, 3);
  const lua_Integer place = luaL_checkinteger(L, 4);
  lua_settop(L, kTo);
  if (lua_isnil(L, kTo)) {
    lua_pushvalue(L, kFrom);
    lua_replace(L, kTo);
  }
  if (last < first) return 1;
  luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3, "too many elements to move");
  luaL_argcheck(L, place <= LUA_MAXINTEGER - (last - first), 4, "destination wrap around");
  if (place > last || place <= first) {
    lua_pushboolean(L, 0);
    return move_rest<give_target>(L, {first, last, place, false}, 0);
  }
  evlua_get_equality(L, kFrom, kTo, 0, move_compared);
  return move_compared(L, LUA_OK, 0);
}

// -- unpack -----------------------------------------------------------------------------------------------------------

/// Stack: list, first, last, elements.
constexpr int kUnpacked = 3;

int unpack_rest(lua_State* L, lua_Integer from);

int continue_unpack(lua_State* L, int, lua_KContext last) { return unpack_rest(L, last); }

/// All that is behind `at`.
int unpack_rest(lua_State* L, lua_Integer at) {
  const lua_Integer last = lua_tointeger(L, 3);
  while (at < last) {
    ++at;
    evlua_get_element(L, 1, at, at, continue_unpack);
  }
  return lua_gettop(L) - kUnpacked;
}

int unpack_measured(lua_State* L, int, lua_KContext) {
  const lua_Integer first = luaL_optinteger(L, 2, 1);
  const lua_Integer last = take_length(L);
  if (first > last) return 0;
  const auto count = static_cast<lua_Unsigned>(last) - static_cast<lua_Unsigned>(first);  // and one
  if (count >= static_cast<unsigned>(INT_MAX) || lua_checkstack(L, static_cast<int>(count + 1)) == 0) {
    return luaL_error(L, "too many results to unpack");
  }
  lua_pushinteger(L, last);
  lua_replace(L, 3);
  evlua_get_element(L, 1, first, first, continue_unpack);
  return unpack_rest(L, first);
}

// -- concat -----------------------------------------------------------------------------------------------------------

/// A call. In a userdata, since the C stack is gone when it has waited.
struct Concat {
  explicit Concat(lua_State* L) noexcept { luaL_buffinit(L, &out); }
  luaL_Buffer out;
  bool busy = true;
};

/// Stack: list, separator, first, last, state.
constexpr int kState = 5;

int concat_rest(lua_State* L, Concat& call, lua_Integer at);

/// An element is on top.
void add_element(lua_State* L, Concat& call, lua_Integer at) {
  if (lua_isstring(L, -1) == 0) {
    luaL_error(L, "invalid value (%s) at index %d in table for 'concat'", luaL_typename(L, -1), static_cast<int>(at));
  }
  luaL_addvalue(&call.out);
}

int continue_concat(lua_State* L, int, lua_KContext at) {
  Concat& call = *static_cast<Concat*>(lua_touserdata(L, kState));
  add_element(L, call, at);
  return concat_rest(L, call, at);
}

/// All that is behind `at`.
int concat_rest(lua_State* L, Concat& call, lua_Integer at) {
  const lua_Integer last = lua_tointeger(L, 4);
  std::size_t size = 0;
  const char* separator = lua_tolstring(L, 2, &size);
  while (at < last) {
    luaL_addlstring(&call.out, separator, size);
    ++at;
    evlua_get_element(L, 1, at, at, continue_concat);
    add_element(L, call, at);
  }
  luaL_pushresult(&call.out);
  call.busy = false;
  return 1;
}

int concat_measured(lua_State* L, int, lua_KContext) {
  const lua_Integer length = take_length(L);
  luaL_optlstring(L, 2, "", nullptr);
  const lua_Integer first = luaL_optinteger(L, 3, 1);
  const lua_Integer last = luaL_optinteger(L, 4, length);
  if (first > last) {
    lua_pushliteral(L, "");
    return 1;
  }
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushliteral(L, "");
    lua_replace(L, 2);
  }
  lua_pushinteger(L, first);
  lua_pushinteger(L, last);
  auto& call = *new (push_spare<Concat>(L)) Concat(L);
  evlua_get_element(L, 1, first, first, continue_concat);
  add_element(L, call, first);
  return concat_rest(L, call, first);
}

// -- the functions ----------------------------------------------------------------------------------------------------

enum Which : std::size_t { kConcat, kInsert, kMove, kRemove, kUnpack };

constexpr lua_KFunction measured[] = {concat_measured, insert_measured, nullptr, remove_measured, unpack_measured};

int measure(lua_State* L, Which which) {
  evlua_get_length(L, 1, 0, measured[which]);
  return measured[which](L, LUA_OK, 0);
}

template <Which which>
int call(lua_State* L) {
  const TableFunction& function = functions[which];
  if (!access_calls(L, 1, function.events)) [[likely]] {
    bool among_nils = false;
    if constexpr (which == kInsert) among_nils = lua_gettop(L) == 3 && has_nils_behind_place(L);
    if constexpr (which == kRemove) among_nils = lua_gettop(L) >= 2 && has_nils_behind_place(L);
    return among_nils ? measure(L, which) : function.stock(L);
  }
  return is_like_table(L, 1, function.events) ? measure(L, which) : function.stock(L);  // which raises
}

/// move reads from one table and may write to another; if ranges overlap it asks whether they are the same.
template <>
int call<kMove>(lua_State* L) {
  const int to = lua_gettop(L) < 5 || lua_isnil(L, 5) ? 1 : 5;
  const bool calls =
      to == 1 ? access_calls(L, 1, kReads | kWrites) : access_calls(L, 1, kReads) || access_calls(L, to, kWrites);
  if (!is_like_table(L, 1, kReads) || !is_like_table(L, to, kWrites)) return functions[kMove].stock(L);
  if (calls) return move_elements(L);
  // What is no integer, or does not fit, is for the stock function to complain of.
  const lua_Integer first = lua_tointeger(L, 2);
  const lua_Integer last = lua_tointeger(L, 3);
  const lua_Integer place = lua_tointeger(L, 4);
  const bool compares = to != 1 && place > first && place <= last;
  const bool fits = last > first && (first > 0 || last < LUA_MAXINTEGER + first);
  return compares || (fits && are_mostly_nil(L, last - first)) ? move_elements(L) : functions[kMove].stock(L);
}

/// As the stock one; where there is no __len it does not take long to ask for the length.
template <>
int call<kUnpack>(lua_State* L) {
  if (access_calls(L, 1, kReads | kLength)) {
    const bool has_last = !lua_isnoneornil(L, 3);
    lua_settop(L, 3);
    luaL_optinteger(L, 2, 1);
    if (!has_last) return measure(L, kUnpack);
    lua_pushinteger(L, luaL_checkinteger(L, 3));
    return unpack_measured(L, LUA_OK, 0);
  }
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
  constexpr lua_CFunction ours[] = {call<kConcat>, call<kInsert>, call<kMove>, call<kRemove>, call<kUnpack>};
  for (std::size_t i = 0; i < functions.size(); ++i) {
    lua_pushnil(L);  // see push_spare
    lua_pushcclosure(L, ours[i], 1);
    lua_setfield(L, -2, functions[i].name);
  }
  return 0;
}

}  // namespace evlua::lua
