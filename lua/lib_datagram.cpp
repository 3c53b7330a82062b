// The sockets for datagrams of evlua.net.
#include <lua.hpp>

#include <sys/socket.h>

#include <cstring>
#include <new>
#include <optional>
#include <string>

#include "lua/bridge.h"
#include "lua/iterate.h"
#include "lua/net_values.h"
#include "lua/socket_options.h"
#include "lua/stack.h"
#include "lua/type_label.h"
#include "net/address.h"
#include "net/datagram.h"
#include "net/socket_options.h"

namespace evlua::lua {

namespace {

using net::Address;
using net::Datagram;
using net::DatagramSocket;
using net::OutgoingDatagram;

constexpr const char* kDatagramType = "evlua.datagram";
constexpr lua_Integer kSendManyMax = 1024;
constexpr std::uint8_t kUse = net::SocketOption::for_datagram;

struct DatagramHandle {
  std::optional<DatagramSocket> socket;
};

DatagramSocket& check_socket(lua_State* L) {
  return *static_cast<DatagramHandle*>(check_object(L, 1, kDatagramType))->socket;
}

int push_true(lua_State* L) {
  lua_pushboolean(L, 1);
  return 1;
}

void push_address(lua_State* L, const Address& address) {
  char copy[160];
  {
    const std::string text = address.to_string();
    const std::size_t size = std::min(text.size(), sizeof copy - 1);
    std::memcpy(copy, text.data(), size);
    copy[size] = '\0';
  }
  lua_pushstring(L, copy);
}

/// The address at `index`, which is a string. Without a family: it is none, and `nil, message, code` are on the stack.
Address parse_address(lua_State* L, int index, const char* what) {
  const std::string_view text = check_bytes(L, index);
  const Result<Address> address = Address::parse(text);
  if (address) return *address;
  const char* message = lua_pushfstring(L, "%s %s: an address like 127.0.0.1:53, [::1]:53 or unix:/path expected", what,
                                        lua_tostring(L, index));
  (void)push_failure(L, message, address.error().name());
  return {};
}

// -- making ---------------------------------------------------------------------------------------------------------

/// Takes note of those options that the socket itself has to know.
void note_options(lua_State* L, int index, DatagramSocket& socket) {
  if (lua_getfield(L, index, "errors") != LUA_TNIL) socket.tell_errors(lua_toboolean(L, -1) != 0);
  lua_pop(L, 1);
}

/// Where to bind a socket for which no address is given.
Address usual_address(int family, bool is_connected) {
  Address address;
  if (family == AF_UNIX) {  // any free name in the abstract namespace, so that answers come back
    sockaddr local{};
    local.sa_family = AF_UNIX;
    address = Address::from(&local, sizeof local.sa_family);
  } else if (!is_connected) {
    address = *Address::from_host(family == AF_INET6 ? "::" : "0.0.0.0", 0);
  }
  return address;
}

/// datagram([address [, options]])
int datagram(lua_State* L) {
  lua_settop(L, 2);
  if (!lua_isnil(L, 1)) luaL_checktype(L, 1, LUA_TSTRING);
  const bool has_options = check_socket_options(L, 2, kUse, {"connect"});
  const char* target = has_options ? option_string(L, 2, "connect") : nullptr;
  auto* handle = new (lua_newuserdata(L, sizeof(DatagramHandle))) DatagramHandle;  // 3
  luaL_setmetatable(L, kDatagramType);
  handle->socket.emplace(net::Socket());
  lua_pushstring(L, target);  // 4
  Address local;
  Address remote;
  if (target != nullptr) remote = parse_address(L, 4, "connect");
  if (target != nullptr && remote.length() == 0) return 3;
  if (!lua_isnil(L, 1)) local = parse_address(L, 1, "datagram");
  if (!lua_isnil(L, 1) && local.length() == 0) return 3;
  if (local.length() == 0) local = usual_address(target != nullptr ? remote.family() : AF_INET, target != nullptr);
  const char* subject = lua_pushfstring(L, "datagram %s", lua_isnil(L, 1) ? "socket" : lua_tostring(L, 1));

  const int family = local.length() != 0 ? local.family() : remote.family();
  Result<net::Socket> opened = DatagramSocket::open(family);
  if (!opened) return push_failure(L, opened.error(), subject);
  DatagramSocket& socket = handle->socket.emplace(std::move(*opened));
  const int fd = socket.socket().fd();
  if (has_options && !apply_socket_options(L, 2, fd, family, kUse, true)) return 3;
  if (local.length() != 0) {
    const Result<void> bound = socket.bind(local);
    if (!bound) return push_failure(L, bound.error(), subject);
  }
  if (has_options && !apply_socket_options(L, 2, fd, family, kUse, false)) return 3;
  if (has_options) note_options(L, 2, socket);
  if (target != nullptr) {
    const Result<void> connected = socket.connect(remote);
    if (!connected) return push_failure(L, connected.error(), target);
  }
  lua_settop(L, 3);
  return 1;
}

int connect(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  const Address address = parse_address(L, 2, "connect");
  if (address.length() == 0) return 3;
  const Result<void> connected = socket.connect(address);
  if (!connected) return push_failure(L, connected.error(), lua_tostring(L, 2));
  return push_true(L);
}

int disconnect(lua_State* L) {
  const Result<void> done = check_socket(L).disconnect();
  if (!done) return push_failure(L, done.error(), "disconnect");
  return push_true(L);
}

int set(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  (void)check_socket_options(L, 2, kUse, {});
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    lua_pop(L, 1);
    const char* name = lua_tostring(L, -1);
    if (net::find_socket_option(name)->is_before_bind()) {
      luaL_argerror(L, 2, lua_pushfstring(L, "option '%s' is for net.datagram: it cannot be changed later", name));
    }
  }
  if (!socket.is_open()) return push_failure(L, Error{EBADF, ErrorDomain::system, OpCode::nop}, "set");
  if (!apply_socket_options(L, 2, socket.socket().fd(), socket.family(), kUse, false)) return 3;
  note_options(L, 2, socket);
  return push_true(L);
}

int get(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  return push_socket_option(L, 2, socket.socket().fd(), socket.family(), kUse);
}

/// join and leave: (group [, interface])
template <class Apply>
int change_membership(lua_State* L, const char* what, Apply apply) {
  DatagramSocket& socket = check_socket(L);
  const char* text = check_path(L, 2);
  const int interface = check_interface(L, 3);
  if (interface < 0) return 3;
  const Result<Address> group = Address::from_host(text, 0);
  const char* subject = lua_pushfstring(L, "%s %s", what, text);
  if (!group) {
    lua_pushfstring(L, "%s: an IPv4 or IPv6 address without a port expected", subject);
    return push_failure(L, lua_tostring(L, -1), "EINVAL");
  }
  const Result<void> changed = apply(socket, *group, interface);
  if (!changed) return push_failure(L, changed.error(), subject);
  return push_true(L);
}

int join(lua_State* L) {
  return change_membership(L, "join", [](DatagramSocket& socket, const Address& group, int interface) {
    return socket.join(group, interface);
  });
}

int leave(lua_State* L) {
  return change_membership(L, "leave", [](DatagramSocket& socket, const Address& group, int interface) {
    return socket.leave(group, interface);
  });
}

// -- receiving ------------------------------------------------------------------------------------------------------

/// data, address, truncated; or nil, message, code, and whom it was about.
int push_received(lua_State* L, const DatagramSocket& socket, const Result<Datagram>& got, std::size_t size) {
  if (!got) {
    const Address& failed = socket.failed();
    if (failed.length() == 0 || got.error().is(EBADF) || got.error().is(EBUSY))
      return push_wait_failure(L, got.error());
    push_address(L, failed);
    const int address = lua_gettop(L);
    (void)push_failure(L, got.error(), lua_tostring(L, address));
    lua_pushvalue(L, address);
    return 4;
  }
  const std::size_t shown = std::min(got->bytes.size(), size);
  lua_pushlstring(L, got->bytes.data(), shown);
  push_address(L, got->from);
  lua_pushboolean(L, got->truncated || shown < got->bytes.size() ? 1 : 0);
  return 3;
}

struct DatagramReceive : StepWait<DatagramReceive> {
  DatagramReceive(DatagramSocket& from, std::size_t most, Instant until)
      : StepWait(OpCode::poll, from.socket().fd(), until), socket(from), size(most) {
    start = [](Suspension& self, Fiber& waiting) {
      auto& wait = static_cast<DatagramReceive&>(self);
      wait.socket.begin_receive(wait, wait.waiter);
      wait.begin_steps(waiting);
    };
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<DatagramReceive&>(self);
      Result<Datagram> got = Datagram();
      wait.socket.end_receive(wait.answer, got);
      return push_received(L, wait.socket, got, wait.size);
    };
  }
  bool advance() { return socket.advance_receive(*this, waiter, answer); }

  DatagramSocket& socket;
  DatagramSocket::Waiter waiter;
  std::size_t size;
  Result<void> answer;
};

/// receive([options])
int receive(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  std::size_t size = DatagramSocket::kBytesMax;
  Instant deadline = kNever;
  if (check_options(L, 2, {"timeout", "size"})) {
    deadline = option_deadline(L, 2);
    const lua_Integer wanted = option_integer(L, 2, "size", static_cast<lua_Integer>(size));
    luaL_argcheck(L, wanted >= 1 && wanted <= lua_Integer{DatagramSocket::kBytesMax}, 2,
                  "option 'size' must be from 1 to 65536");
    size = static_cast<std::size_t>(wanted);
  }
  Result<Datagram> got = Datagram();
  if (socket.try_receive(got)) return push_received(L, socket, got, size);
  return suspend<DatagramReceive>(L, socket, size, deadline);
}

/// for data, address, truncated in socket:receive_each() do ... end: ends when the socket is closed.
int receive_each(lua_State* L) {
  (void)check_socket(L);
  lua_settop(L, 1);
  lua_pushnil(L);
  return push_iterator(L, receive, 3);
}

// -- sending --------------------------------------------------------------------------------------------------------

/// What a wait sends, in a userdata of its own, since it does not fit into a fiber's slot.
struct Outgoing {
  msghdr message;
  unsigned count;
  unsigned next;
  OutgoingDatagram datagrams[1];  // in fact `count`
};

Outgoing& new_outgoing(lua_State* L, unsigned count) {
  void* memory = lua_newuserdata(L, sizeof(Outgoing) + (count - 1) * sizeof(OutgoingDatagram));
  auto* outgoing = static_cast<Outgoing*>(memory);
  new (outgoing) Outgoing{};
  for (unsigned at = 1; at < count; ++at) new (outgoing->datagrams + at) OutgoingDatagram{};
  outgoing->count = count;
  return *outgoing;
}

/// Sends what is left without waiting. True: that is over, with all sent or an error.
bool send_rest(DatagramSocket& socket, Outgoing& outgoing, Result<void>& out) {
  const Result<unsigned> sent = socket.try_send(outgoing.datagrams + outgoing.next, outgoing.count - outgoing.next);
  if (!sent) {
    out = fail(sent.error());
    return true;
  }
  outgoing.next += *sent;
  return outgoing.next == outgoing.count;
}

/// true, or the number sent; nil, message, code, and the number sent.
int push_sent(lua_State* L, const Outgoing& outgoing, const Result<void>& done, bool is_batch) {
  if (done && !is_batch) return push_true(L);
  if (!done) (void)push_wait_failure(L, done.error());
  if (!is_batch) return 3;
  lua_pushinteger(L, static_cast<lua_Integer>(outgoing.next));
  return done ? 1 : 4;
}

struct DatagramSend : StepWait<DatagramSend> {
  DatagramSend(DatagramSocket& to, Outgoing& what, bool batch, Instant until)
      : StepWait(OpCode::sendmsg, to.socket().fd(), until), socket(to), outgoing(what), is_batch(batch) {
    start = [](Suspension& self, Fiber& waiting) {
      auto& wait = static_cast<DatagramSend&>(self);
      wait.prepare_next();
      wait.begin_steps(waiting);
    };
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<DatagramSend&>(self);
      return push_sent(L, wait.outgoing, wait.answer, wait.is_batch);
    };
  }

  bool advance() {
    answer = socket.end_send(*this, waiter);
    if (!answer) return true;
    if (++outgoing.next == outgoing.count) return true;
    if (send_rest(socket, outgoing, answer)) return true;
    prepare_next();
    return false;
  }
  void prepare_next() {
    DatagramSocket::fill_message(outgoing.message, outgoing.datagrams[outgoing.next]);
    socket.begin_send(*this, waiter, outgoing.message);
  }

  DatagramSocket& socket;
  DatagramSocket::Waiter waiter;
  Outgoing& outgoing;
  bool is_batch;
  Result<void> answer;
};

iovec bytes_of(std::string_view bytes) { return {const_cast<char*>(bytes.data()), bytes.size()}; }

Instant send_deadline(lua_State* L, int index) {
  return check_options(L, index, {"timeout"}) ? option_deadline(L, index) : kNever;
}

/// send(data [, address [, options]])
int send(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  OutgoingDatagram datagram{bytes_of(check_bytes(L, 2)), {}};
  const Instant deadline = send_deadline(L, 4);
  if (!lua_isnoneornil(L, 3)) {
    datagram.to = parse_address(L, 3, "send");
    if (datagram.to.length() == 0) return 3;
  }
  const Result<unsigned> sent = socket.try_send(&datagram, 1);
  if (!sent) return push_failure(L, sent.error(), lua_tostring(L, 3));
  if (*sent == 1) return push_true(L);
  Outgoing& outgoing = new_outgoing(L, 1);
  outgoing.datagrams[0] = datagram;
  return suspend<DatagramSend>(L, socket, outgoing, false, deadline);
}

/// Puts the item on top of the stack, which is data or {data, address}, into `datagram`, and the data into the table of
/// what must stay. False: leaves `nil, message, code`.
bool take_item(lua_State* L, lua_Integer number, int kept, OutgoingDatagram& datagram) {
  const int item = lua_gettop(L);
  if (lua_istable(L, item)) {
    lua_rawgeti(L, item, 1);
    lua_rawgeti(L, item, 2);
  } else {
    lua_pushvalue(L, item);
    lua_pushnil(L);
  }
  const bool is_right = lua_type(L, -2) == LUA_TSTRING && (lua_isnil(L, -1) || lua_type(L, -1) == LUA_TSTRING);
  if (!is_right) {
    luaL_argerror(L, 2, lua_pushfstring(L, "element %I: a string or {string, address} expected", number));
  }
  if (!lua_isnil(L, -1)) {
    datagram.to = parse_address(L, item + 2, "send");
    if (datagram.to.length() == 0) return false;
  }
  datagram.bytes = bytes_of(check_bytes(L, item + 1));
  lua_pushvalue(L, item + 1);
  lua_rawseti(L, kept, number);
  lua_settop(L, item - 1);
  return true;
}

/// send_many(list [, options])
int send_many(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  const auto count = static_cast<lua_Integer>(lua_rawlen(L, 2));
  luaL_argcheck(L, count <= kSendManyMax, 2, "at most 1024 datagrams at once");
  const Instant deadline = send_deadline(L, 3);
  lua_settop(L, 3);
  if (count == 0) {
    lua_pushinteger(L, 0);
    return 1;
  }
  Outgoing& outgoing = new_outgoing(L, static_cast<unsigned>(count));  // 4
  lua_createtable(L, static_cast<int>(count), 0);                      // 5
  for (lua_Integer i = 1; i <= count; ++i) {
    lua_rawgeti(L, 2, i);
    if (!take_item(L, i, 5, outgoing.datagrams[i - 1])) return 3;
  }
  Result<void> done;
  if (send_rest(socket, outgoing, done)) return push_sent(L, outgoing, done, true);
  return suspend<DatagramSend>(L, socket, outgoing, true, deadline);
}

// -- the rest -------------------------------------------------------------------------------------------------------

int local_address(lua_State* L) {
  push_address(L, check_socket(L).socket().local_address());
  return 1;
}

int remote_address(lua_State* L) {
  const Address address = check_socket(L).socket().remote_address();
  if (address.length() == 0) {
    lua_pushnil(L);
  } else {
    push_address(L, address);
  }
  return 1;
}

int port(lua_State* L) {
  lua_pushinteger(L, check_socket(L).socket().local_address().port());
  return 1;
}

int close(lua_State* L) {
  DatagramSocket& socket = check_socket(L);
  if (!socket.is_open()) return push_true(L);
  return suspend_close(L, [&socket] { return socket.close(); });
}

int to_string(lua_State* L) {
  const DatagramSocket& socket = check_socket(L);
  if (!socket.is_open()) {
    lua_pushliteral(L, "datagram socket (closed)");
    return 1;
  }
  if (socket.family() != AF_UNIX) lua_pushliteral(L, "udp ");
  if (socket.family() == AF_UNIX) lua_pushliteral(L, "datagram ");
  (void)local_address(L);
  (void)remote_address(L);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_concat(L, 2);
  } else {
    lua_pushliteral(L, " <-> ");
    lua_insert(L, -2);
    lua_concat(L, 4);
  }
  return 1;
}

int collect(lua_State* L) {
  auto* handle = static_cast<DatagramHandle*>(lua_touserdata(L, 1));
  handle->socket.reset();
  handle->socket.emplace(net::Socket());
  return 0;
}

}  // namespace

DatagramSocket* to_datagram(lua_State* L, int index) {
  auto* handle = static_cast<DatagramHandle*>(luaL_testudata(L, index, kDatagramType));
  return handle != nullptr ? &*handle->socket : nullptr;
}

void push_datagram_of(lua_State* L, net::Socket& socket) {
  auto* handle = new (lua_newuserdata(L, sizeof(DatagramHandle))) DatagramHandle;
  handle->socket.emplace(std::move(socket));
  luaL_setmetatable(L, kDatagramType);
}

void open_datagram(lua_State* L) {
  const luaL_Reg methods[] = {{"send", send},
                              {"send_many", send_many},
                              {"receive", receive},
                              {"receive_each", receive_each},
                              {"connect", connect},
                              {"disconnect", disconnect},
                              {"join", join},
                              {"leave", leave},
                              {"set", set},
                              {"get", get},
                              {"local_address", local_address},
                              {"remote_address", remote_address},
                              {"port", port},
                              {"close", close},
                              {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", to_string}, {"__gc", collect}, {nullptr, nullptr}};
  define_type(L, kDatagramType, methods, meta);
  lua_pushcfunction(L, datagram);
  lua_setfield(L, -2, "datagram");
}

}  // namespace evlua::lua
