// evlua.compat.native: sockets as the system has them, for lua/lib/socket_*.lua. Nothing here waits
// (lua/compat_wait.cpp does); what would have to gives nil and "again".
#include <lua.hpp>

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>

#include "lua/bridge.h"
#include "lua/compat.h"
#include "lua/modules.h"
#include "lua/stack.h"
#include "net/address.h"

namespace evlua::lua {

namespace {

using net::Address;
using net::PlainSocket;

// Registry keys: the address is the key.
const char kSocketMark = 0;

constexpr lua_Integer kReceiveMax = 65536;

int push_outcome(lua_State* L, const Result<void>& done) {
  return done ? push_true(L) : push_socket_error(L, done.error().code);
}

// -- making and ending ----------------------------------------------------------------------------------------------

/// class(name, methods, collect): a metatable for sockets.
int make_class(lua_State* L) {
  lua_createtable(L, 0, 6);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "__name");
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, "__index");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 1);
  lua_rawsetp(L, -2, &kSocketMark);
  return 1;
}

/// Pushes a closed socket with the class at index `type` and the state at `state`.
PlainSocket& push_socket(lua_State* L, int type, int state) {
  auto* socket = new (lua_newuserdata(L, sizeof(PlainSocket))) PlainSocket;
  lua_pushvalue(L, state);
  lua_setuservalue(L, -2);
  lua_pushvalue(L, type);
  lua_setmetatable(L, -2);
  return *socket;
}

/// make(class, state)
int make(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  (void)push_socket(L, 1, 2);
  return 1;
}

int collect(lua_State* L) {
  check_plain_socket(L).close();
  return 0;
}

/// state(value): what belongs to a socket, or nil for anything else.
int state(lua_State* L) {
  if (to_plain_socket(L, 1) == nullptr) {
    lua_pushnil(L);
  } else {
    lua_getuservalue(L, 1);
  }
  return 1;
}

/// open(socket, "inet" | "inet6" | "unix", is_datagram)
int open(lua_State* L) {
  static const char* const names[] = {"inet", "inet6", "unix", nullptr};
  constexpr std::array<int, 3> families = {AF_INET, AF_INET6, AF_UNIX};
  PlainSocket& socket = check_plain_socket(L);
  const int family = families[static_cast<std::size_t>(luaL_checkoption(L, 2, nullptr, names))];
  return push_outcome(L, socket.open(family, lua_toboolean(L, 3) != 0 ? SOCK_DGRAM : SOCK_STREAM));
}

int descriptor(lua_State* L) {
  lua_pushinteger(L, check_plain_socket(L).fd());
  return 1;
}

/// set_descriptor(socket, fd): the one it had is not closed.
int set_descriptor(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const lua_Integer fd = check_range(L, 2, -1, std::numeric_limits<int>::max());
  (void)socket.release();
  if (fd >= 0) socket.adopt(static_cast<int>(fd));
  return 0;
}

// -- addresses ------------------------------------------------------------------------------------------------------

/// The address at `index`: host and port, or a path alone. Without a family: it is none.
Address to_address(lua_State* L, int index) {
  const std::string_view text = check_bytes(L, index);
  if (lua_isnoneornil(L, index + 1)) {
    // As LuaSocket has it: whatever fits.
    sockaddr_un local{};
    if (text.size() >= sizeof local.sun_path) return {};
    local.sun_family = AF_UNIX;
    std::memcpy(local.sun_path, text.data(), text.size());
    const std::size_t size = offsetof(sockaddr_un, sun_path) + text.size();
    return Address::from(reinterpret_cast<const sockaddr*>(&local), static_cast<socklen_t>(size));
  }
  const lua_Integer port = check_range(L, index + 1, 0, 65535);
  const Result<Address> address = Address::from_host(text, static_cast<std::uint16_t>(port));
  return address ? *address : Address();
}

/// Host, port and family, or a path.
int push_address(lua_State* L, const Address& address) {
  if (address.is_unix()) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(address.get());
    const std::size_t start = offsetof(sockaddr_un, sun_path);
    const std::size_t room = address.length() > start ? address.length() - start : 0;
    lua_pushlstring(L, local->sun_path, ::strnlen(local->sun_path, room));
    return 1;
  }
  std::array<char, NI_MAXHOST> host{};
  if (::getnameinfo(address.get(), address.length(), host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    host[0] = '\0';
  }
  lua_pushstring(L, host.data());
  lua_pushinteger(L, address.port());
  lua_pushstring(L, address.family() == AF_INET6 ? "inet6" : "inet");
  return 3;
}

/// name(socket, of_peer)
int name(lua_State* L) {
  const PlainSocket& socket = check_plain_socket(L);
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  const auto ask = lua_toboolean(L, 2) != 0 ? ::getpeername : ::getsockname;
  if (ask(socket.fd(), address, &length) != 0) return push_socket_error(L, errno);
  return push_address(L, Address::from(address, length));
}

/// numeric(host): the address in its usual form and its family, or nil when it is a name.
int numeric(lua_State* L) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(luaL_checkstring(L, 1), nullptr, &hints, &found) != 0) {
    lua_pushnil(L);
    return 1;
  }
  const Address address = Address::from(found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  (void)push_address(L, address);
  lua_remove(L, -2);  // the port
  return 2;
}

/// service(name, is_datagram): the port of a well-known service, or nil.
int service(lua_State* L) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_family = AF_INET;
  hints.ai_socktype = lua_toboolean(L, 2) != 0 ? SOCK_DGRAM : SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(nullptr, luaL_checkstring(L, 1), &hints, &found) != 0) {
    lua_pushnil(L);
    return 1;
  }
  const Address address = Address::from(found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  lua_pushinteger(L, address.port());
  return 1;
}

int host_name(lua_State* L) {
  std::array<char, 257> text{};
  if (::gethostname(text.data(), text.size() - 1) != 0) return push_socket_error(L, errno);
  lua_pushstring(L, text.data());
  return 1;
}

// -- calls ----------------------------------------------------------------------------------------------------------

/// bind(socket, host, port) or (socket, path)
int bind(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const Address address = to_address(L, 2);
  if (address.length() == 0) return push_socket_error(L, EINVAL);
  return push_outcome(L, socket.bind(address));
}

int listen(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const lua_Integer backlog = check_range(L, 2, std::numeric_limits<int>::min(), std::numeric_limits<int>::max());
  return push_outcome(L, socket.listen(static_cast<int>(backlog)));
}

/// connect(socket [, host, port]), (socket, path): nil and "again" while it is being connected.
int connect(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  Address address;
  if (!lua_isnoneornil(L, 2)) {
    address = to_address(L, 2);
    if (address.length() == 0) return push_socket_error(L, EINVAL);
  }
  return push_outcome(L, socket.connect(address));
}

int pending_error(lua_State* L) { return push_outcome(L, check_plain_socket(L).pending_error()); }

/// accept(socket, class, state): a socket with that class and state.
int accept(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  if (!socket.is_open()) return push_socket_error(L, ECONNABORTED);
  PlainSocket& accepted = push_socket(L, 2, 3);
  const Result<int> fd = socket.accept();
  if (!fd) return push_socket_error(L, fd.error().code);
  accepted.adopt(*fd);
  return 1;
}

/// Where what is received lands, one for each thread.
char* landing() {
  thread_local std::array<char, kReceiveMax> mine;
  return mine.data();
}

/// receive(socket, size): up to that many bytes, nil and "closed" at the end.
int receive(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const lua_Integer size = check_range(L, 2, 1, kReceiveMax);
  if (!socket.is_open()) return push_socket_error(L, ECONNABORTED);
  const Result<std::uint32_t> got = socket.receive(landing(), static_cast<std::uint32_t>(size));
  if (!got) return push_socket_error(L, got.error().code);
  if (*got == 0) return push_socket_error(L, ECONNABORTED);
  lua_pushlstring(L, landing(), *got);
  return 1;
}

/// receive_from(socket, size): a datagram and who sent it.
int receive_from(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const lua_Integer size = check_range(L, 2, 0, kReceiveMax);
  if (!socket.is_open()) return push_socket_error(L, ECONNABORTED);
  Address from;
  const Result<std::uint32_t> got = socket.receive(landing(), static_cast<std::uint32_t>(size), &from);
  if (!got) return push_socket_error(L, got.error().code);
  lua_pushlstring(L, landing(), *got);
  if (from.length() == 0) return 1;
  return 1 + push_address(L, from);
}

/// send(socket, data, first, last): how many bytes were sent.
int send(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const std::string_view data = check_bytes(L, 2);
  const lua_Integer first = check_range(L, 3, 1, static_cast<lua_Integer>(data.size()) + 1);
  const lua_Integer last = check_range(L, 4, first - 1, static_cast<lua_Integer>(data.size()));
  if (!socket.is_open()) return push_socket_error(L, ECONNABORTED);
  const auto size = static_cast<std::uint32_t>(std::min(last - first + 1, lua_Integer{1} << 30));
  const Result<std::uint32_t> sent = socket.send(data.data() + first - 1, size);
  if (!sent) return push_socket_error(L, sent.error().code == EPIPE ? ECONNABORTED : sent.error().code);
  lua_pushinteger(L, *sent);
  return 1;
}

/// send_to(socket, data, host, port), or a path: how many bytes were sent.
int send_to(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const std::string_view data = check_bytes(L, 2);
  const Address to = to_address(L, 3);
  if (to.length() == 0) return push_socket_error(L, EINVAL);
  if (!socket.is_open()) return push_socket_error(L, ECONNABORTED);
  if (data.size() > std::numeric_limits<std::uint32_t>::max()) return push_socket_error(L, EMSGSIZE);
  const Result<std::uint32_t> sent = socket.send(data.data(), static_cast<std::uint32_t>(data.size()), &to);
  if (!sent) return push_socket_error(L, sent.error().code);
  lua_pushinteger(L, *sent);
  return 1;
}

/// shut_down(socket, how)
int shut_down(lua_State* L) {
  const PlainSocket& socket = check_plain_socket(L);
  (void)::shutdown(socket.fd(), static_cast<int>(check_range(L, 2, SHUT_RD, SHUT_RDWR)));
  return 0;
}

int names(lua_State* L) {
  lua_createtable(L, static_cast<int>(kCompatNames.size()), 0);
  lua_Integer index = 0;
  for (const char* known : kCompatNames) {
    lua_pushstring(L, known);
    lua_rawseti(L, -2, ++index);
  }
  return 1;
}

}  // namespace

PlainSocket* to_plain_socket(lua_State* L, int index) {
  void* value = lua_touserdata(L, index);
  if (value == nullptr || lua_getmetatable(L, index) == 0) return nullptr;
  const bool marked = lua_rawgetp(L, -1, &kSocketMark) != LUA_TNIL;
  lua_pop(L, 2);
  return marked ? static_cast<PlainSocket*>(value) : nullptr;
}

PlainSocket& check_plain_socket(lua_State* L) {
  PlainSocket* socket = to_plain_socket(L, 1);
  luaL_argcheck(L, socket != nullptr, 1, "socket expected");
  return *socket;
}

int push_socket_error(lua_State* L, int error) {
  lua_pushnil(L);
  switch (error) {
    case EAGAIN:
    case EINPROGRESS: lua_pushliteral(L, "again"); break;
    case EADDRINUSE: lua_pushliteral(L, "address already in use"); break;
    case EISCONN: lua_pushliteral(L, "already connected"); break;
    case EACCES: lua_pushliteral(L, "permission denied"); break;
    case ECONNREFUSED: lua_pushliteral(L, "connection refused"); break;
    case ECONNABORTED:
    case ECONNRESET: lua_pushliteral(L, "closed"); break;
    case ETIMEDOUT: lua_pushliteral(L, "timeout"); break;
    default: lua_pushstring(L, ::strerrordesc_np(error));
  }
  return 2;
}

std::string compat_names() {
  std::string text;
  for (const char* known : kCompatNames) text.append(text.empty() ? "" : ", ").append(known);
  return text;
}

bool is_compat_name(const std::string& name) {
  return std::find(kCompatNames.begin(), kCompatNames.end(), name) != kCompatNames.end();
}

void use_compat(lua_State* L, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "evlua.compat");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "use");
    lua_pushlstring(L, name.data(), name.size());
    lua_call(L, 1, 0);
    lua_pop(L, 1);
  }
}

int open_compat(lua_State* L) {
  const luaL_Reg functions[] = {{"make", make},
                                {"state", state},
                                {"open", open},
                                {"close", close_plain_socket},
                                {"descriptor", descriptor},
                                {"set_descriptor", set_descriptor},
                                {"name", name},
                                {"numeric", numeric},
                                {"service", service},
                                {"host_name", host_name},
                                {"bind", bind},
                                {"listen", listen},
                                {"connect", connect},
                                {"pending_error", pending_error},
                                {"accept", accept},
                                {"receive", receive},
                                {"receive_from", receive_from},
                                {"send", send},
                                {"send_to", send_to},
                                {"shut_down", shut_down},
                                {"set_option", set_plain_option},
                                {"get_option", get_plain_option},
                                {"wait", wait_plain_socket},
                                {"select", select_plain_sockets},
                                {"names", names},
                                {nullptr, nullptr}};
  luaL_newlib(L, functions);
  lua_pushcfunction(L, collect);
  lua_pushcclosure(L, make_class, 1);
  lua_setfield(L, -2, "class");
  return 1;
}

}  // namespace evlua::lua
