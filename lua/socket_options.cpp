#include "lua/socket_options.h"

#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "lua/bridge.h"
#include "lua/stack.h"
#include "net/socket_options.h"

namespace evlua::lua {

namespace {

using net::SocketOption;

/// The option named by the key below the top of the stack, if sockets of that use have one. Null otherwise.
const SocketOption* option_at_key(lua_State* L, std::uint8_t use) {
  if (lua_type(L, -2) != LUA_TSTRING) return nullptr;
  const SocketOption* option = net::find_socket_option(lua_tostring(L, -2));
  return option != nullptr && option->is_for(use) ? option : nullptr;
}

bool is_named_in(lua_State* L, std::initializer_list<const char*> others) {
  if (lua_type(L, -2) != LUA_TSTRING) return false;
  for (const char* name : others) {
    if (std::strcmp(name, lua_tostring(L, -2)) == 0) return true;
  }
  return false;
}

/// Raises unless the value on top is one for `option`.
void check_value(lua_State* L, int index, const SocketOption& option) {
  const char* expected = nullptr;
  switch (option.kind) {
    case SocketOption::Kind::flag:
      if (lua_type(L, -1) != LUA_TBOOLEAN) expected = "boolean";
      break;
    case SocketOption::Kind::interface:
      if (lua_type(L, -1) != LUA_TSTRING) expected = "name of an interface";
      break;
    case SocketOption::Kind::number:
    case SocketOption::Kind::seconds: {
      int is_integer = 0;
      const lua_Integer value = lua_tointegerx(L, -1, &is_integer);
      if (is_integer == 0 || value < option.low || value > option.high) {
        expected = lua_pushfstring(L, "integer from %d to %d", option.low, option.high);
        lua_insert(L, -2);
      }
      break;
    }
  }
  if (expected == nullptr) return;
  const char* shown = luaL_tolstring(L, -1, nullptr);
  luaL_argerror(L, index, lua_pushfstring(L, "option '%s': %s expected, got %s", option.name, expected, shown));
}

}  // namespace

bool check_socket_options(lua_State* L, int index, std::uint8_t use, std::initializer_list<const char*> others) {
  if (lua_isnoneornil(L, index)) return false;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    if (const SocketOption* option = option_at_key(L, use)) {
      check_value(L, index, *option);
    } else if (!is_named_in(L, others)) {
      const char* shown = luaL_tolstring(L, -2, nullptr);
      luaL_argerror(L, index, lua_pushfstring(L, "unknown option '%s'", shown));
    }
    lua_pop(L, 1);
  }
  return true;
}

bool apply_socket_options(lua_State* L, int index, int fd, int family, std::uint8_t use, bool before_bind) {
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    const SocketOption* option = option_at_key(L, use);
    if (option == nullptr || option->is_before_bind() != before_bind) {
      lua_pop(L, 1);
      continue;
    }
    Result<void> done;
    if (option->kind == SocketOption::Kind::interface) {
      const unsigned interface = ::if_nametoindex(lua_tostring(L, -1));
      done = interface == 0 ? fail(errno) : net::set_socket_option(fd, family, *option, static_cast<int>(interface));
    } else {
      const bool is_flag = option->kind == SocketOption::Kind::flag;
      const int value = is_flag ? lua_toboolean(L, -1) : static_cast<int>(lua_tointeger(L, -1));
      done = net::set_socket_option(fd, family, *option, value);
    }
    if (!done) {
      const char* subject = lua_pushfstring(L, "option '%s'", option->name);
      (void)push_failure(L, done.error(), subject);
      return false;
    }
    lua_pop(L, 1);
  }
  return true;
}

int push_socket_option(lua_State* L, int index, int fd, int family, std::uint8_t use) {
  const char* name = luaL_checkstring(L, index);
  const SocketOption* option = net::find_socket_option(name);
  if (option == nullptr || !option->is_for(use) || option->kind == SocketOption::Kind::interface) {
    return luaL_argerror(L, index, lua_pushfstring(L, "no option '%s' can be read", name));
  }
  const Result<int> value = net::get_socket_option(fd, family, *option);
  if (!value) return push_failure(L, value.error(), lua_pushfstring(L, "option '%s'", name));
  if (option->kind == SocketOption::Kind::flag) {
    lua_pushboolean(L, *value);
  } else if (option->kind == SocketOption::Kind::seconds) {
    lua_pushnumber(L, *value / 1000.0);
  } else {
    lua_pushinteger(L, *value);
  }
  return 1;
}

int check_interface(lua_State* L, int index) {
  if (lua_isnoneornil(L, index)) return 0;
  const char* name = check_path(L, index);
  const unsigned found = ::if_nametoindex(name);
  if (found != 0) return static_cast<int>(found);
  const int error = errno;
  (void)push_failure(L, Error{error, ErrorDomain::system, OpCode::nop}, lua_pushfstring(L, "interface '%s'", name));
  return -1;
}

}  // namespace evlua::lua
