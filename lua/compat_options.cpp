// setoption and getoption of LuaSocket: by its names, with its values.
#include <lua.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "lua/compat.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

enum class Kind : std::uint8_t { flag, number, linger, device, error, interface, membership, membership_v6 };
enum Use : std::uint8_t { for_stream = 1, for_datagram = 2, for_unix = 4, for_both = 3, for_all = 7 };

struct Option {
  const char* name;
  Kind kind;
  std::uint8_t use;
  int level;
  int option;
};

constexpr Option kOptions[] = {
    {"keepalive", Kind::flag, for_stream | for_unix, SOL_SOCKET, SO_KEEPALIVE},
    {"reuseaddr", Kind::flag, for_all, SOL_SOCKET, SO_REUSEADDR},
    {"reuseport", Kind::flag, for_both, SOL_SOCKET, SO_REUSEPORT},
    {"bindtodevice", Kind::device, for_both, SOL_SOCKET, SO_BINDTODEVICE},
    {"tcp-nodelay", Kind::flag, for_stream, IPPROTO_TCP, TCP_NODELAY},
    {"tcp-keepidle", Kind::number, for_stream, IPPROTO_TCP, TCP_KEEPIDLE},
    {"tcp-keepcnt", Kind::number, for_stream, IPPROTO_TCP, TCP_KEEPCNT},
    {"tcp-keepintvl", Kind::number, for_stream, IPPROTO_TCP, TCP_KEEPINTVL},
    {"tcp-fastopen", Kind::number, for_stream, IPPROTO_TCP, TCP_FASTOPEN},
    {"tcp-fastopen-connect", Kind::number, for_stream, IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {"tcp-defer-accept", Kind::number, for_stream, IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {"linger", Kind::linger, for_stream | for_unix, SOL_SOCKET, SO_LINGER},
    {"error", Kind::error, for_both, SOL_SOCKET, SO_ERROR},
    {"recv-buffer-size", Kind::number, for_both, SOL_SOCKET, SO_RCVBUF},
    {"send-buffer-size", Kind::number, for_both, SOL_SOCKET, SO_SNDBUF},
    {"ipv6-v6only", Kind::flag, for_both, IPPROTO_IPV6, IPV6_V6ONLY},
    {"dontroute", Kind::flag, for_datagram, SOL_SOCKET, SO_DONTROUTE},
    {"broadcast", Kind::flag, for_datagram, SOL_SOCKET, SO_BROADCAST},
    {"ip-multicast-if", Kind::interface, for_datagram, IPPROTO_IP, IP_MULTICAST_IF},
    {"ip-multicast-ttl", Kind::number, for_datagram, IPPROTO_IP, IP_MULTICAST_TTL},
    {"ip-multicast-loop", Kind::flag, for_datagram, IPPROTO_IP, IP_MULTICAST_LOOP},
    {"ip-add-membership", Kind::membership, for_datagram, IPPROTO_IP, IP_ADD_MEMBERSHIP},
    {"ip-drop-membership", Kind::membership, for_datagram, IPPROTO_IP, IP_DROP_MEMBERSHIP},
    {"ipv6-unicast-hops", Kind::number, for_datagram, IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {"ipv6-multicast-hops", Kind::number, for_datagram, IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
    {"ipv6-multicast-loop", Kind::flag, for_datagram, IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {"ipv6-add-membership", Kind::membership_v6, for_datagram, IPPROTO_IPV6, IPV6_JOIN_GROUP},
    {"ipv6-drop-membership", Kind::membership_v6, for_datagram, IPPROTO_IPV6, IPV6_LEAVE_GROUP},
};

/// A value as setsockopt takes it.
union Value {
  int number;
  linger lingering;
  in_addr interface;
  ip_mreq membership;
  ipv6_mreq membership_v6;
  char device[IFNAMSIZ];
};

/// Raises for an argument of the user's, who has called the Lua function that has called us.
int fail_argument(lua_State* L, int position, const char* what) {
  lua_Debug caller;
  const char* name = "?";
  if (lua_getstack(L, 1, &caller) != 0) {
    lua_getinfo(L, "n", &caller);
    if (caller.name != nullptr) name = caller.name;
    if (std::strcmp(caller.namewhat, "method") == 0) --position;
  }
  luaL_where(L, 2);
  lua_pushfstring(L, "bad argument #%d to '%s' (%s)", position, name, what);
  lua_concat(L, 2);
  return lua_error(L);
}

/// The number at `index` as the nearest T; 0 for what is none.
template <class T>
T to_number(lua_State* L, int index) {
  const lua_Number number = lua_tonumber(L, index);
  if (std::isnan(number)) return 0;
  constexpr auto kLeast = static_cast<lua_Number>(std::numeric_limits<T>::min());
  constexpr auto kMost = static_cast<lua_Number>(std::numeric_limits<T>::max());
  return static_cast<T>(std::clamp(number, kLeast, kMost));
}

/// The option named at index 3, for sockets of the kind at index 2; raises when they have none of that name.
const Option& check_option(lua_State* L, bool to_set) {
  static const char* const kinds[] = {"stream", "datagram", "unix", nullptr};
  const unsigned use = 1U << static_cast<unsigned>(luaL_checkoption(L, 2, nullptr, kinds));
  const char* name = luaL_checkstring(L, 3);
  for (const Option& option : kOptions) {
    const bool one_way =
        to_set ? option.kind == Kind::error : option.kind == Kind::membership || option.kind == Kind::membership_v6;
    if ((option.use & use) != 0 && !one_way && std::strcmp(option.name, name) == 0) return option;
  }
  fail_argument(L, 2, lua_pushfstring(L, "unsupported option `%s'", name));
  return kOptions[0];
}

int fail_value(lua_State* L, const char* what) { return fail_argument(L, 3, what); }

bool parse_v4(const char* text, in_addr& address) { return ::inet_aton(text, &address) != 0; }

/// The field of the table at index 4, on top of the stack afterwards.
const char* string_field(lua_State* L, const char* name) {
  if (lua_getfield(L, 4, name) == LUA_TNIL || !lua_isstring(L, -1)) {
    fail_value(L, lua_pushfstring(L, "string '%s' field expected", name));
  }
  return lua_tostring(L, -1);
}

void check_table(lua_State* L) {
  if (!lua_istable(L, 4)) fail_value(L, lua_pushfstring(L, "table expected, got %s", luaL_typename(L, 4)));
}

void read_linger(lua_State* L, linger& value) {
  check_table(L);
  if (lua_getfield(L, 4, "on") != LUA_TBOOLEAN) fail_value(L, "boolean 'on' field expected");
  value.l_onoff = lua_toboolean(L, -1);
  lua_getfield(L, 4, "timeout");
  if (lua_isnumber(L, -1) == 0) fail_value(L, "number 'timeout' field expected");
  value.l_linger = to_number<int>(L, -1);
}

void read_membership(lua_State* L, ip_mreq& value) {
  check_table(L);
  if (!parse_v4(string_field(L, "multiaddr"), value.imr_multiaddr)) fail_value(L, "invalid 'multiaddr' ip address");
  const char* interface = string_field(L, "interface");
  if (std::strcmp(interface, "*") != 0 && !parse_v4(interface, value.imr_interface)) {
    fail_value(L, "invalid 'interface' ip address");
  }
}

void read_membership_v6(lua_State* L, ipv6_mreq& value) {
  check_table(L);
  if (::inet_pton(AF_INET6, string_field(L, "multiaddr"), &value.ipv6mr_multiaddr) != 1) {
    fail_value(L, "invalid 'multiaddr' ip address");
  }
  if (lua_getfield(L, 4, "interface") == LUA_TNIL) return;
  if (lua_isnumber(L, -1) == 0) fail_value(L, "number 'interface' field expected");
  value.ipv6mr_interface = to_number<unsigned>(L, -1);
}

/// Takes the value at index 4; its size.
socklen_t read_value(lua_State* L, Kind kind, Value& value) {
  switch (kind) {
    case Kind::flag:
      if (!lua_isboolean(L, 4)) fail_value(L, lua_pushfstring(L, "boolean expected, got %s", luaL_typename(L, 4)));
      value.number = lua_toboolean(L, 4);
      break;
    case Kind::linger: read_linger(L, value.lingering); return sizeof value.lingering;
    case Kind::device: {
      const char* name = lua_tostring(L, 4);
      if (name == nullptr) fail_value(L, "string expected");
      std::strncpy(value.device, name, sizeof value.device - 1);
      return static_cast<socklen_t>(std::strlen(value.device) + 1);
    }
    case Kind::interface: {
      const char* text = lua_tostring(L, 4);
      if (text == nullptr || (std::strcmp(text, "*") != 0 && !parse_v4(text, value.interface)))
        fail_value(L, "ip expected");
      return sizeof value.interface;
    }
    case Kind::membership: read_membership(L, value.membership); return sizeof value.membership;
    case Kind::membership_v6: read_membership_v6(L, value.membership_v6); return sizeof value.membership_v6;
    case Kind::error:
    case Kind::number: value.number = to_number<int>(L, 4); break;
  }
  return sizeof value.number;
}

int push_value(lua_State* L, Kind kind, const Value& value) {
  std::array<char, INET_ADDRSTRLEN> text{};
  switch (kind) {
    case Kind::flag: lua_pushboolean(L, value.number); break;
    case Kind::linger:
      lua_createtable(L, 0, 2);
      lua_pushboolean(L, value.lingering.l_onoff);
      lua_setfield(L, -2, "on");
      lua_pushinteger(L, value.lingering.l_linger);
      lua_setfield(L, -2, "timeout");
      break;
    case Kind::device: lua_pushlstring(L, value.device, ::strnlen(value.device, sizeof value.device)); break;
    case Kind::interface: lua_pushstring(L, ::inet_ntop(AF_INET, &value.interface, text.data(), text.size())); break;
    case Kind::error:
      if (value.number == 0) {
        lua_pushnil(L);
      } else {
        (void)push_socket_error(L, value.number);  // the text is on top
      }
      break;
    default: lua_pushnumber(L, value.number);
  }
  return 1;
}

}  // namespace

int set_plain_option(lua_State* L) {
  const int fd = check_plain_socket(L).fd();
  const Option& option = check_option(L, true);
  Value value{};
  std::memset(&value, 0, sizeof value);
  const socklen_t size = read_value(L, option.kind, value);
  if (::setsockopt(fd, option.level, option.option, &value, size) != 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "setsockopt failed");
    return 2;
  }
  lua_pushnumber(L, 1);
  return 1;
}

int get_plain_option(lua_State* L) {
  const int fd = check_plain_socket(L).fd();
  const Option& option = check_option(L, false);
  Value value{};
  std::memset(&value, 0, sizeof value);
  socklen_t size = sizeof value;
  if (::getsockopt(fd, option.level, option.option, &value, &size) != 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "getsockopt failed");
    return 2;
  }
  return push_value(L, option.kind, value);
}

}  // namespace evlua::lua
