// Dictionaries of evlua.shared.
#include <lua.hpp>

#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/shared/dict.h"
#include "lua/bridge.h"
#include "lua/shared_names.h"
#include "lua/shared_parts.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kDictType = "evlua.dict";

/// A dictionary is a table of closures over this: a call finds its method at once and needs no check of a type, which
/// is most of what such a call would cost.
struct DictHandle {
  Dict* dict = nullptr;
  Dict::Cache cache;
};

DictHandle& check_dict(lua_State* L) {
  if (lua_type(L, 1) != LUA_TTABLE) luaL_checktype(L, 1, LUA_TTABLE);  // called with a dot
  return *static_cast<DictHandle*>(lua_touserdata(L, lua_upvalueindex(1)));
}

Dict::Value check_value(lua_State* L, int index) {
  switch (lua_type(L, index)) {
    case LUA_TNIL: return {};
    case LUA_TBOOLEAN: return Dict::Value::of(lua_toboolean(L, index) != 0);
    case LUA_TNUMBER:
      return lua_isinteger(L, index) != 0 ? Dict::Value::of(std::int64_t{lua_tointeger(L, index)})
                                          : Dict::Value::of(lua_tonumber(L, index));
    case LUA_TSTRING: return Dict::Value::of(check_bytes(L, index));
    default:
      luaL_argerror(L, index,
                    lua_pushfstring(L, "string, number, boolean or nil expected, got %s", luaL_typename(L, index)));
      EVLUA_UNREACHABLE();
  }
}

Dict::Value check_number(lua_State* L, int index) {
  luaL_checktype(L, index, LUA_TNUMBER);
  return check_value(L, index);
}

void push_value(lua_State* L, const Dict::Value& value) {
  switch (value.kind) {
    case Dict::Value::Kind::nil: lua_pushnil(L); break;
    case Dict::Value::Kind::boolean: lua_pushboolean(L, value.boolean ? 1 : 0); break;
    case Dict::Value::Kind::integer: lua_pushinteger(L, value.integer); break;
    case Dict::Value::Kind::number: lua_pushnumber(L, value.number); break;
    case Dict::Value::Kind::string: lua_pushlstring(L, value.string.data(), value.string.size()); break;
  }
}

Instant expiry_after(lua_State* L, const Dict& dict, int argument, double seconds) {
  luaL_argcheck(L, seconds > 0, argument, "option 'ttl': seconds above 0 expected");
  return deadline_after(dict.now(), duration_from_seconds(seconds));
}

/// The expiry from the option `ttl`.
Instant option_expiry(lua_State* L, const Dict& dict, int index) {
  const double seconds = option_number(L, index, "ttl", HUGE_VAL);
  return seconds == HUGE_VAL ? kNever : expiry_after(L, dict, index, seconds);
}

Instant check_expiry(lua_State* L, const Dict& dict, int index) {
  return check_options(L, index, {"ttl"}) ? option_expiry(L, dict, index) : kNever;
}

int push_outcome(lua_State* L, Dict::Outcome outcome) {
  using Outcome = Dict::Outcome;
  switch (outcome) {
    case Outcome::done: lua_pushboolean(L, 1); return 1;
    case Outcome::exists: return push_failure(L, "the key exists", "EEXIST");
    case Outcome::missing: return push_failure(L, "no such key", "ENOENT");
    case Outcome::changed: return push_failure(L, "the value has changed", "EAGAIN");
    case Outcome::too_large: return push_failure(L, "larger than the dictionary may be", "ELIMIT");
    case Outcome::full: return push_failure(L, "the dictionary is full", "ENOSPC");
    case Outcome::not_number: return push_failure(L, "the value is not a number", "EINVAL");
  }
  EVLUA_UNREACHABLE();
}

int collect_dict(lua_State* L) {
  static_cast<DictHandle*>(lua_touserdata(L, 1))->cache.clear();
  return 0;
}

/// Pushes the value of the key at `index`.
void push_current(lua_State* L, DictHandle& handle, int index, std::uint64_t* version = nullptr) {
  Dict::Value value;
  handle.dict->get(check_bytes(L, index), value, handle.cache, version);
  push_value(L, value);
  handle.cache.release();
}

int get(lua_State* L) {
  DictHandle& handle = check_dict(L);
  push_current(L, handle, 2);
  return 1;
}

int store(lua_State* L, Dict::When when) {
  Dict& dict = *check_dict(L).dict;
  const std::string_view key = check_bytes(L, 2);
  luaL_checkany(L, 3);
  const Dict::Value value = check_value(L, 3);
  const Instant expires = lua_isnoneornil(L, 4) ? kNever : check_expiry(L, dict, 4);
  return push_outcome(L, dict.store(key, value, expires, when));
}

int set(lua_State* L) { return store(L, Dict::When::always); }

int add(lua_State* L) {
  if (lua_isnoneornil(L, 3)) {
    return luaL_argerror(L, 3, lua_pushfstring(L, "string, number or boolean expected, got %s", luaL_typename(L, 3)));
  }
  return store(L, Dict::When::absent);
}

int replace(lua_State* L) { return store(L, Dict::When::present); }

/// incr(key[, by[, {init, ttl}]])
int incr(lua_State* L) {
  DictHandle& handle = check_dict(L);
  Dict& dict = *handle.dict;
  const std::string_view key = check_bytes(L, 2);
  Dict::Value by;
  by.kind = Dict::Value::Kind::integer;
  by.integer = 1;
  if (lua_isinteger(L, 3) != 0) {
    by.integer = lua_tointeger(L, 3);
  } else if (!lua_isnoneornil(L, 3)) {
    by = check_number(L, 3);
  }
  Dict::Value initial;
  initial.kind = Dict::Value::Kind::integer;
  Instant expires = kNever;
  if (lua_gettop(L) >= 4 && check_options(L, 4, {"init", "ttl"})) {
    const int given = lua_getfield(L, 4, "init");
    const bool none = given == LUA_TBOOLEAN && lua_toboolean(L, -1) == 0;
    luaL_argcheck(L, given == LUA_TNIL || given == LUA_TNUMBER || none, 4, "option 'init': a number, or false");
    if (given == LUA_TNUMBER) initial = check_value(L, -1);
    if (none) initial = Dict::Value();
    lua_pop(L, 1);
    expires = option_expiry(L, dict, 4);
  }
  Dict::Value result;
  const Dict::Outcome outcome = dict.increment(key, by, initial, expires, result, handle.cache);
  if (outcome != Dict::Outcome::done) return push_outcome(L, outcome);
  if (result.kind == Dict::Value::Kind::integer) {
    lua_pushinteger(L, result.integer);
  } else {
    lua_pushnumber(L, result.number);
  }
  return 1;
}

/// cas(key, expected, value[, {ttl}]) -> true; or false and the present value
int compare_and_set(lua_State* L) {
  DictHandle& handle = check_dict(L);
  const std::string_view key = check_bytes(L, 2);
  luaL_checkany(L, 4);
  const Dict::Value expected = check_value(L, 3);
  const Dict::Value value = check_value(L, 4);
  const Instant expires = check_expiry(L, *handle.dict, 5);
  while (true) {
    const Dict::Outcome outcome = handle.dict->compare_and_store(key, expected, value, expires);
    if (outcome != Dict::Outcome::changed) return push_outcome(L, outcome);
    Dict::Value present;
    handle.dict->get(key, present, handle.cache);
    if (present == expected) continue;  // meanwhile it is
    lua_pushboolean(L, 0);
    push_value(L, present);
    handle.cache.release();
    return 2;
  }
}

int update_with(lua_State* L);

/// The function has returned the new value, which lies above the version it belongs to.
int updated(lua_State* L, int, lua_KContext) {
  Dict& dict = *check_dict(L).dict;
  const int type = lua_type(L, 6);
  if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA || type == LUA_TTHREAD ||
      type == LUA_TLIGHTUSERDATA) {
    return luaL_error(L, "the function of update returned a %s; string, number, boolean or nil expected",
                      luaL_typename(L, 6));
  }
  const auto version = static_cast<std::uint64_t>(lua_tointeger(L, 5));
  const Instant expires = check_expiry(L, dict, 4);
  const Dict::Outcome outcome = dict.store_if(check_bytes(L, 2), version, check_value(L, 6), expires);
  if (outcome == Dict::Outcome::done) return 1;
  if (outcome != Dict::Outcome::changed) return push_outcome(L, outcome);
  lua_settop(L, 4);
  return update_with(L);
}

/// Stack: dictionary, key, function, options.
int update_with(lua_State* L) {
  lua_pushvalue(L, 3);
  std::uint64_t version = 0;
  push_current(L, check_dict(L), 2, &version);
  lua_pushinteger(L, static_cast<lua_Integer>(version));
  lua_insert(L, 5);
  lua_callk(L, 1, 1, 0, updated);
  return updated(L, LUA_OK, 0);
}

/// update(key, function[, {ttl}]) -> the new value
int update(lua_State* L) {
  (void)check_bytes(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  (void)check_expiry(L, *check_dict(L).dict, 4);
  lua_settop(L, 4);
  return update_with(L);
}

int erase(lua_State* L) {
  lua_pushboolean(L, check_dict(L).dict->erase(check_bytes(L, 2)) ? 1 : 0);
  return 1;
}

/// expire(key, seconds | nil) -> whether there is such a key
int expire(lua_State* L) {
  Dict& dict = *check_dict(L).dict;
  const std::string_view key = check_bytes(L, 2);
  Instant expires = kNever;
  if (!lua_isnoneornil(L, 3)) {
    const double seconds = luaL_checknumber(L, 3);
    luaL_argcheck(L, seconds > 0, 3, "seconds above 0 expected");
    expires = deadline_after(dict.now(), duration_from_seconds(seconds));
  }
  lua_pushboolean(L, dict.set_expiry(key, expires) ? 1 : 0);
  return 1;
}

/// ttl(key) -> seconds; math.huge when it does not expire; nil, message, "ENOENT"
int time_to_live(lua_State* L) {
  Dict& dict = *check_dict(L).dict;
  Instant expires = kNever;
  if (!dict.expiry(check_bytes(L, 2), expires)) return push_outcome(L, Dict::Outcome::missing);
  lua_pushnumber(L, expires == kNever ? HUGE_VAL : static_cast<double>(expires - dict.now()) / 1e9);
  return 1;
}

int flush(lua_State* L) {
  check_dict(L).dict->clear();
  return 0;
}

struct KeyList {
  std::vector<std::string> keys;
};

/// keys([n = 1024]) -> list
int keys(lua_State* L) {
  Dict& dict = *check_dict(L).dict;
  const lua_Integer count =
      lua_isnoneornil(L, 2) ? 1024 : check_range(L, 2, 1, std::numeric_limits<std::int32_t>::max());
  // In a userdata: what follows may raise.
  auto* list = new (lua_newuserdata(L, sizeof(KeyList))) KeyList;
  luaL_setmetatable(L, "evlua.key_list");
  list->keys = dict.keys(static_cast<std::size_t>(count));
  lua_createtable(L, static_cast<int>(list->keys.size()), 0);
  lua_Integer position = 0;
  for (const std::string& key : list->keys) {
    lua_pushlstring(L, key.data(), key.size());
    lua_rawseti(L, -2, ++position);
  }
  list->keys = {};
  return 1;
}

int collect_keys(lua_State* L) {
  static_cast<KeyList*>(lua_touserdata(L, 1))->~KeyList();
  return 0;
}

int info(lua_State* L) {
  Dict& dict = *check_dict(L).dict;
  const Dict::Statistics now = dict.statistics();
  lua_createtable(L, 0, 4);
  set_integer(L, "entries", now.entries);
  set_integer(L, "bytes", now.bytes);
  set_integer(L, "capacity", dict.options().bytes);
  set_integer(L, "evictions", now.evictions);
  return 1;
}

/// watch([key])
int watch(lua_State* L) { return push_watch(L, *check_dict(L).dict); }

// -- opening --------------------------------------------------------------------------------------------------------

const char kDictHandle = 0;  // keys of a dictionary's table
const char kDictName = 0;

const luaL_Reg dict_methods[] = {{"get", get},          {"set", set},      {"add", add},
                                 {"replace", replace},  {"incr", incr},    {"cas", compare_and_set},
                                 {"update", update},    {"delete", erase}, {"expire", expire},
                                 {"ttl", time_to_live}, {"keys", keys},    {"flush", flush},
                                 {"info", info},        {"watch", watch},  {nullptr, nullptr}};

/// A dictionary travels to another Vm by its name.
int transfer_dict(lua_State* L) {
  lua_pushliteral(L, "evlua.shared");
  lua_pushliteral(L, "dict");
  lua_rawgetp(L, 1, &kDictName);
  return 3;
}

int dict_to_string(lua_State* L) {
  lua_pushfstring(L, "dict: %p", lua_topointer(L, 1));
  return 1;
}

/// Pushes the object for the dictionary, and keeps it in the table of objects at upvalue 1.
void push_dict(lua_State* L, const char* name, const Dict::Options& options) {
  lua_createtable(L, 0, static_cast<int>(std::size(dict_methods)) - 1);
  auto* handle = new (lua_newuserdata(L, sizeof(DictHandle))) DictHandle;
  luaL_setmetatable(L, "evlua.dict_handle");
  handle->dict = registry<Dict>().get(name, [&] { return std::make_unique<Dict>(options); });
  (void)check_made(L, handle->dict, "dictionary");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, -3, &kDictHandle);
  lua_pushstring(L, name);
  lua_rawsetp(L, -3, &kDictName);
  luaL_setfuncs(L, dict_methods, 1);
  luaL_setmetatable(L, kDictType);
  lua_pushvalue(L, -1);
  lua_setfield(L, lua_upvalueindex(1), name);
}

/// dict(name[, {bytes, evict}])
int open_dict(lua_State* L) {
  (void)check_name(L, 1);
  const char* name = check_path(L, 1);
  const bool has_options = check_options(L, 2, {"bytes", "evict"});
  Dict::Options options;
  if (has_options) {
    const lua_Integer bytes = option_integer(L, 2, "bytes", static_cast<lua_Integer>(options.bytes));
    luaL_argcheck(L, bytes >= 4096, 2, "option 'bytes': 4096 or more expected");
    options.bytes = static_cast<std::size_t>(bytes);
    options.evict = option_flag(L, 2, "evict", true);
  }
  if (lua_getfield(L, lua_upvalueindex(1), name) != LUA_TTABLE) push_dict(L, name, options);
  if (!has_options) return 1;
  lua_rawgetp(L, -1, &kDictHandle);
  const Dict::Options& is = static_cast<DictHandle*>(lua_touserdata(L, -1))->dict->options();
  lua_pop(L, 1);
  if (is.bytes == options.bytes && is.evict == options.evict) return 1;
  return luaL_error(L, "the dictionary '%s' is there already, with bytes = %I, evict = %s", name,
                    static_cast<lua_Integer>(is.bytes), is.evict ? "true" : "false");
}

}  // namespace

void define_shared_dict(lua_State* L) {
  const luaL_Reg handle_meta[] = {{"__gc", collect_dict}, {nullptr, nullptr}};
  define_type(L, "evlua.dict_handle", nullptr, handle_meta);
  const luaL_Reg dict_meta[] = {{"__tostring", dict_to_string}, {"__transfer", transfer_dict}, {nullptr, nullptr}};
  define_type(L, kDictType, nullptr, dict_meta);
  const luaL_Reg list_meta[] = {{"__gc", collect_keys}, {nullptr, nullptr}};
  define_type(L, "evlua.key_list", nullptr, list_meta);
}

void push_open_dict(lua_State* L) {
  lua_newtable(L);  // the dictionaries that this Vm has opened
  lua_pushcclosure(L, open_dict, 1);
}

}  // namespace evlua::lua
