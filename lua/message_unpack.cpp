// From the bytes of a message to Lua values.
#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "lua/message.h"
#include "lua/message_format.h"

namespace evlua::lua {

namespace {

using Tag = MessageTag;

struct Unpacker {
  lua_State* L;
  const Message& message;
  int seen;  // list of tables and functions
  std::size_t at = 0;
  lua_Integer numbered = 0;

  template <class T>
  T get() {
    T value;
    std::memcpy(&value, message.data + at, sizeof value);
    at += sizeof value;
    return value;
  }
  void string() {
    const auto size = get<std::size_t>();
    lua_pushlstring(L, message.data + at, size);
    at += size;
  }
  /// Numbers the value on top.
  void number_it() {
    lua_pushvalue(L, -1);
    lua_rawseti(L, seen, ++numbered);
  }

  bool value();
  void table();
  void function();
  void field();
  void made();
};

/// Pushes the next value; false at an end.
bool Unpacker::value() {
  luaL_checkstack(L, 8, "values nested too deeply");
  switch (get<Tag>()) {
    case Tag::nil: lua_pushnil(L); return true;
    case Tag::null: lua_pushlightuserdata(L, nullptr); return true;
    case Tag::no:
    case Tag::yes: lua_pushboolean(L, static_cast<Tag>(message.data[at - 1]) == Tag::yes ? 1 : 0); return true;
    case Tag::integer: lua_pushinteger(L, get<lua_Integer>()); return true;
    case Tag::number: lua_pushnumber(L, get<lua_Number>()); return true;
    case Tag::string: string(); return true;
    case Tag::long_string: reinterpret_cast<MessageString*>(get<std::uintptr_t>())->push(L); return true;
    case Tag::table: table(); return true;
    case Tag::end: return false;
    case Tag::function: function(); return true;
    case Tag::globals: lua_pushglobaltable(L); return true;
    case Tag::again: lua_rawgeti(L, seen, get<lua_Integer>()); return true;
    case Tag::module:
      lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
      string();
      lua_rawget(L, -2);
      lua_remove(L, -2);
      return true;
    case Tag::named: field(); return true;
    case Tag::made: made(); return true;
    case Tag::channel:
      push_channel(L, reinterpret_cast<const Message::ChannelLink*>(get<std::uintptr_t>())->channel);
      return true;
  }
  EVLUA_UNREACHABLE();
}

void Unpacker::table() {
  const auto list = get<std::uint32_t>();
  const auto all = get<std::uint32_t>();
  lua_createtable(L, static_cast<int>(list), static_cast<int>(all > list ? all - list : 0));
  number_it();
  while (value()) {
    (void)value();
    lua_rawset(L, -3);
  }
}

void Unpacker::function() {
  const auto size = get<std::size_t>();
  if (luaL_loadbufferx(L, message.data + at, size, "=?", "b") != LUA_OK) lua_error(L);
  at += size;
  number_it();
  const auto upvalues = get<std::uint32_t>();
  for (std::uint32_t i = 1; i <= upvalues; ++i) {
    (void)value();
    lua_setupvalue(L, -2, static_cast<int>(i));
  }
}

/// Pushes the field of a module; both names follow.
void Unpacker::field() {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  string();
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  string();
  lua_pushvalue(L, -1);
  const int type = lua_istable(L, -3) ? lua_gettable(L, -3) : LUA_TNIL;
  if (type == LUA_TNIL) {
    luaL_error(L, "the module '%s' of this Lua state has no '%s'", lua_tostring(L, -4), lua_tostring(L, -2));
  }
  lua_insert(L, -5);
  lua_pop(L, 4);
}

void Unpacker::made() {
  const lua_Integer number = ++numbered;
  field();
  const auto arguments = static_cast<int>(get<std::uint32_t>());
  for (int i = 0; i < arguments; ++i) (void)value();
  lua_call(L, arguments, 1);
  lua_pushvalue(L, -1);
  lua_rawseti(L, seen, number);
}

/// Stack: ..., the packed message on top. Loads module after module; the name of the next one is at `at`. What was
/// unpacked counts for its sender no more.
int unpack_after(lua_State* L, int, lua_KContext at) {
  std::unique_ptr<Message>& message = static_cast<PackedMessage*>(lua_touserdata(L, -1))->message;
  const int packed = lua_gettop(L);
  Unpacker modules{L, *message, 0, static_cast<std::size_t>(at)};
  while (modules.at < message->size) {
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    modules.string();
    lua_pushvalue(L, -1);
    const bool loaded = lua_rawget(L, -3) != LUA_TNIL;
    lua_pop(L, 1);
    if (!loaded) {
      lua_getglobal(L, "require");
      lua_insert(L, -2);
      lua_remove(L, -3);
      lua_callk(L, 1, 0, static_cast<lua_KContext>(modules.at), unpack_after);
    }
    lua_settop(L, packed);
  }
  const int values = message->values;
  lua_newtable(L);
  Unpacker unpacker{L, *message, packed + 1};
  luaL_checkstack(L, values, "too many values");
  for (int i = 0; i < values; ++i) (void)unpacker.value();
  message = nullptr;
  return values;
}

/// Stack: as above.
int unpack_begin(lua_State* L) {
  const Message& message = *static_cast<PackedMessage*>(lua_touserdata(L, -1))->message;
  return unpack_after(L, LUA_OK, static_cast<lua_KContext>(message.modules_at));
}

}  // namespace

int unpack_message(lua_State* L, std::unique_ptr<Message>& message) {
  luaL_checkstack(L, 8, "too many values");
  push_packed(L) = std::move(message);
  return unpack_begin(L);
}

int unpack_packed(lua_State* L) { return unpack_begin(L); }

}  // namespace evlua::lua
