// From Lua values to the bytes of a message.
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/check.h"
#include "lua/channel_cycles.h"
#include "lua/message.h"
#include "lua/message_format.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

using Tag = MessageTag;

constexpr int kDepthMax = 5000;

/// Pushes "file:line: " of the nearest Lua code that is not ours.
void push_user_position(lua_State* L) {
  lua_Debug where;
  for (int level = 1; lua_getstack(L, level, &where) != 0; ++level) {
    lua_getinfo(L, "Sl", &where);
    if (where.currentline > 0 && std::strncmp(where.source, "=[evlua", 7) != 0) {
      lua_pushfstring(L, "%s:%d: ", where.short_src, where.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

/// Messages that are garbage may hold the memory that is missing: channels that nobody has any more are full of them.
void collect_messages(lua_State* L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  collect_channel_cycles();
}

/// What a packing keeps on the Lua stack: the packed userdata, the numbers of tables and functions that were seen, the
/// names of functions (nil until one is needed), and the list and set of the modules to load (nil until there is one).
struct Packer {
  lua_State* L;
  Message& message;
  int seen;
  int names;
  int modules;
  int depth = 0;
  lua_Integer numbered = 0;
  char where[128] = "";  // for errors: ".field[1]"

  template <class T>
  void put(T value) {
    append(&value, sizeof value);
  }
  void append(const void* data, std::size_t size) {
    if (message.append(data, size)) return;
    collect_messages(L);
    if (!message.append(data, size)) luaL_error(L, "%s", kNoMemory);
  }
  /// Writes to a place that was left for it.
  template <class T>
  void put_at(std::size_t place, T value) {
    std::memcpy(message.data + place, &value, sizeof value);
  }
  void put_string(const char* data, std::size_t size) {
    put(size);
    append(data, size);
  }
  [[noreturn]] void refuse(const char* what) const {
    push_user_position(L);
    lua_pushfstring(L, "cannot copy %s to another Lua state%s%s", what, *where != 0 ? ": it is at " : "", where);
    lua_concat(L, 2);
    lua_error(L);
    EVLUA_UNREACHABLE();
  }

  void value(int index);
  void string(int index);
  void table(int index);
  void function(int index);
  void channel(const std::shared_ptr<MessageChannel>& packed);
  void module(const char* name, std::size_t size);
  void put_modules();
  bool repeated(int index);
  void number_it(int index);
  bool made_by_transfer(int index);
  bool named_function(int index);
  bool module_table(int index);
  void collect_names();
  std::size_t extend_where(int key);
};

void Packer::value(int index) {
  if (++depth > kDepthMax) refuse("tables nested so deeply");
  luaL_checkstack(L, 8, "values nested too deeply");
  index = lua_absindex(L, index);
  switch (lua_type(L, index)) {
    case LUA_TNIL: put(Tag::nil); break;
    case LUA_TBOOLEAN: put(lua_toboolean(L, index) != 0 ? Tag::yes : Tag::no); break;
    case LUA_TNUMBER:
      if (lua_isinteger(L, index) != 0) {
        put(Tag::integer);
        put(lua_tointeger(L, index));
      } else {
        put(Tag::number);
        put(lua_tonumber(L, index));
      }
      break;
    case LUA_TSTRING: string(index); break;
    case LUA_TTABLE:
      if (!repeated(index) && !made_by_transfer(index)) table(index);
      break;
    case LUA_TFUNCTION:
      if (!repeated(index) && !named_function(index)) function(index);
      break;
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, index) != nullptr) refuse("a light userdata");
      put(Tag::null);
      break;
    default:
      if (const auto* channel = to_channel(L, index)) {
        this->channel(*channel);
      } else if (!made_by_transfer(index)) {
        const char* name = luaL_getmetafield(L, index, "__name") == LUA_TSTRING ? lua_tostring(L, -1) : nullptr;
        if (name == nullptr) name = luaL_typename(L, index);
        refuse(lua_pushfstring(L, *name != '\0' && std::strchr("aeiou", *name) != nullptr ? "an %s" : "a %s", name));
      }
  }
  --depth;
}

void Packer::string(int index) {
  std::size_t size = 0;
  const char* data = lua_tolstring(L, index, &size);
  if (size < MessageString::kLeast) {
    put(Tag::string);
    put_string(data, size);
    return;
  }
  const MessageString* added = message.add_string(data, size);
  if (added == nullptr) {
    collect_messages(L);
    added = message.add_string(data, size);
  }
  if (added == nullptr) luaL_error(L, "%s", kNoMemory);
  put(Tag::long_string);
  put(reinterpret_cast<std::uintptr_t>(added));
}

void Packer::channel(const std::shared_ptr<MessageChannel>& packed) {
  const Message::ChannelLink* link = message.add_channel(packed);
  if (link == nullptr) luaL_error(L, "%s", kNoMemory);
  put(Tag::channel);
  put(reinterpret_cast<std::uintptr_t>(link));
}

/// The module is to be loaded over there.
void Packer::module(const char* name, std::size_t size) {
  if (lua_isnil(L, modules)) {
    lua_newtable(L);
    lua_replace(L, modules);
  }
  lua_pushlstring(L, name, size);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, modules) == LUA_TNIL) {
    lua_pushvalue(L, -2);
    lua_pushboolean(L, 1);
    lua_rawset(L, modules);
    lua_pushvalue(L, -2);
    lua_rawseti(L, modules, static_cast<lua_Integer>(lua_rawlen(L, modules)) + 1);
  }
  lua_pop(L, 2);
}

void Packer::put_modules() {
  message.modules_at = message.size;
  if (lua_isnil(L, modules)) return;
  for (lua_Integer i = 1; lua_rawgeti(L, modules, i) == LUA_TSTRING; ++i) {
    std::size_t size = 0;
    const char* name = lua_tolstring(L, -1, &size);
    put_string(name, size);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/// Mentions the value if it was packed before.
bool Packer::repeated(int index) {
  lua_pushvalue(L, index);
  lua_rawget(L, seen);
  const bool is = lua_isinteger(L, -1) != 0;
  if (is) {
    put(Tag::again);
    put(lua_tointeger(L, -1));
  }
  lua_pop(L, 1);
  return is;
}

void Packer::number_it(int index) {
  lua_pushvalue(L, index);
  lua_pushinteger(L, ++numbered);
  lua_rawset(L, seen);
}

std::size_t Packer::extend_where(int key) {
  const std::size_t before = std::strlen(where);
  const std::size_t room = sizeof where - before;
  int added = 0;
  if (lua_type(L, key) == LUA_TSTRING) {
    added = std::snprintf(where + before, room, "%s%.40s", before == 0 ? "" : ".", lua_tostring(L, key));
  } else if (lua_isinteger(L, key) != 0) {
    added = std::snprintf(where + before, room, "[%lld]", static_cast<long long>(lua_tointeger(L, key)));
  }
  if (added < 0 || static_cast<std::size_t>(added) >= room) where[before] = 0;
  return before;
}

void Packer::table(int index) {
  number_it(index);
  put(Tag::table);
  put(static_cast<std::uint32_t>(lua_rawlen(L, index)));
  const std::size_t count_at = message.size;
  put(std::uint32_t{0});
  std::uint32_t count = 0;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    const std::size_t before = extend_where(-2);
    value(-2);
    value(-1);
    where[before] = 0;
    ++count;
    lua_pop(L, 1);
  }
  put(Tag::end);
  put_at(count_at, count);
}

void Packer::function(int index) {
  if (lua_iscfunction(L, index) != 0) refuse("a C function that is in no module");
  number_it(index);
  put(Tag::function);
  const std::size_t size_at = message.size;
  put(std::size_t{0});
  lua_pushvalue(L, index);
  lua_dump(
      L,
      [](lua_State*, const void* data, std::size_t size, void* self) {
        static_cast<Packer*>(self)->append(data, size);
        return 0;
      },
      this, 0);
  lua_pop(L, 1);
  const std::size_t size = message.size - size_at - sizeof size;
  put_at(size_at, size);
  const std::size_t count_at = message.size;
  put(std::uint32_t{0});
  std::uint32_t count = 0;
  while (const char* name = lua_getupvalue(L, index, static_cast<int>(count) + 1)) {
    ++count;
    lua_pushglobaltable(L);
    const bool globals = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 1);
    lua_pushfstring(L, "upvalue '%s'", name);
    const std::size_t before = extend_where(-1);
    lua_pop(L, 1);
    if (globals) {
      put(Tag::globals);
    } else if (!module_table(-1)) {
      value(-1);
    }
    where[before] = 0;
    lua_pop(L, 1);
  }
  put_at(count_at, count);
}

/// Mentions a table that is a module by its name.
bool Packer::module_table(int index) {
  if (!lua_istable(L, index)) return false;
  index = lua_absindex(L, index);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, index) != 0) {
      std::size_t size = 0;
      const char* name = lua_tolstring(L, -2, &size);
      put(Tag::module);
      put_string(name, size);
      module(name, size);
      lua_pop(L, 3);
      return true;
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return false;
}

/// Fills `names`: function -> {module, field}. A Lua function among the globals is the script's own, unless it is one
/// of ours.
void Packer::collect_names() {
  lua_newtable(L);
  const int loaded = lua_gettop(L) + 1;
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil(L);
  while (lua_next(L, loaded) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_istable(L, -1)) {
      const bool globals = std::strcmp(lua_tostring(L, -2), "_G") == 0;
      lua_pushnil(L);
      while (lua_next(L, -2) != 0) {
        bool wanted = lua_type(L, -2) == LUA_TSTRING && lua_isfunction(L, -1);
        if (wanted && globals && lua_iscfunction(L, -1) == 0) {
          lua_Debug origin;
          lua_pushvalue(L, -1);
          lua_getinfo(L, ">S", &origin);
          wanted = std::strncmp(origin.source, "=[evlua", 7) == 0;
        }
        if (wanted) {
          lua_createtable(L, 2, 0);
          lua_pushvalue(L, -5);
          lua_rawseti(L, -2, 1);
          lua_pushvalue(L, -3);
          lua_rawseti(L, -2, 2);
          lua_rawset(L, loaded - 1);
        } else {
          lua_pop(L, 1);
        }
      }
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  lua_replace(L, names);
}

/// Mentions a function by its name in a module.
bool Packer::named_function(int index) {
  if (lua_isnil(L, names)) collect_names();
  lua_pushvalue(L, index);
  lua_rawget(L, names);
  const bool found = lua_istable(L, -1);
  if (found) {
    put(Tag::named);
    for (int part = 1; part <= 2; ++part) {
      lua_rawgeti(L, -1, part);
      std::size_t size = 0;
      const char* name = lua_tolstring(L, -1, &size);
      put_string(name, size);
      if (part == 1) module(name, size);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
  return found;
}

/// Packs what the metamethod __transfer tells about the value.
bool Packer::made_by_transfer(int index) {
  const int type = luaL_getmetafield(L, index, "__transfer");
  if (type == LUA_TNIL) return false;
  const int top = lua_gettop(L);
  lua_pushvalue(L, index);
  lua_call(L, 1, LUA_MULTRET);
  const int results = lua_gettop(L) - top + 1;
  if (results < 2 || lua_type(L, top) != LUA_TSTRING || lua_type(L, top + 1) != LUA_TSTRING) {
    refuse("a value whose __transfer does not return the names of a module and of a function");
  }
  number_it(index);
  put(Tag::made);
  for (int part = 0; part < 2; ++part) {
    std::size_t size = 0;
    const char* name = lua_tolstring(L, top + part, &size);
    put_string(name, size);
    if (part == 0) module(name, size);
  }
  put(static_cast<std::uint32_t>(results - 2));
  for (int i = 2; i < results; ++i) value(top + i);
  lua_settop(L, top - 1);
  return true;
}

}  // namespace

void pack_message(lua_State* L, int first) {
  first = lua_absindex(L, first);
  const int count = lua_gettop(L) - first + 1;
  luaL_checkstack(L, 8, "too many values");
  std::unique_ptr<Message>& message = push_packed(L);
  const Vm& vm = Vm::of(L);
  message = Message::create(vm.messages(), vm.keeps_limit());
  if (message == nullptr) {
    collect_messages(L);
    message = Message::create(vm.messages(), vm.keeps_limit());
  }
  if (message == nullptr) luaL_error(L, "%s", kNoMemory);
  message->values = count;
  lua_newtable(L);
  lua_pushnil(L);
  lua_pushnil(L);
  Packer packer{L, *message, lua_gettop(L) - 2, lua_gettop(L) - 1, lua_gettop(L)};
  for (int i = 0; i < count; ++i) packer.value(first + i);
  packer.put_modules();
  lua_pop(L, 3);
  lua_insert(L, first);
  lua_settop(L, first);
}

}  // namespace evlua::lua
