// evlua.net: streams and listeners over TCP and Unix-domain sockets. For datagrams see lib_datagram.cpp.
#include <lua.hpp>

#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <string>

#include "lua/bridge.h"
#include "lua/dns_settings.h"
#include "lua/iterate.h"
#include "lua/modules.h"
#include "lua/net_values.h"
#include "lua/socket_options.h"
#include "lua/stack.h"
#include "lua/type_label.h"
#include "net/address.h"
#include "net/connect.h"
#include "net/listener.h"
#include "net/socket_options.h"
#include "net/stream.h"

namespace evlua::lua {

namespace {

constexpr const char* kStreamType = "evlua.stream";
constexpr const char* kListenerType = "evlua.listener";
constexpr lua_Integer kReadMax = std::numeric_limits<std::int32_t>::max();
constexpr lua_Integer kLineMax = 1 << 20;

struct StreamHandle {
  std::optional<net::Stream> stream;
};

struct ListenerHandle {
  std::optional<net::Listener> listener;
};

net::Stream& check_stream(lua_State* L) { return *static_cast<StreamHandle*>(check_object(L, 1, kStreamType))->stream; }

net::Listener& check_listener(lua_State* L) {
  return *static_cast<ListenerHandle*>(check_object(L, 1, kListenerType))->listener;
}

/// The handle comes first, so that a failing allocation loses no socket.
int push_stream(lua_State* L, net::Socket& socket, net::Stream::Kind kind = net::Stream::Kind::socket) {
  auto* handle = new (lua_newuserdata(L, sizeof(StreamHandle))) StreamHandle;
  handle->stream.emplace(std::move(socket), kind);
  luaL_setmetatable(L, kStreamType);
  return 1;
}

// -- pushers --------------------------------------------------------------------------------------------------------

struct PushStream {
  char about[112];
  const char* subject() const { return about; }
  int operator()(lua_State* L, net::Socket& socket) const { return push_stream(L, socket); }
};

struct PushBytes {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, std::string_view bytes) const {
    lua_pushlstring(L, bytes.data(), bytes.size());
    return 1;
  }
};

struct PushTrue {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L) const {
    lua_pushboolean(L, 1);
    return 1;
  }
};

// -- making ---------------------------------------------------------------------------------------------------------

/// The table of the option `dns`: pushes it, and leaves the index.
int dns_options(lua_State* L, int options) {
  const int type = lua_getfield(L, options, "dns");
  luaL_argcheck(L, type == LUA_TNIL || type == LUA_TTABLE, options, "option 'dns': a table expected");
  const int dns = lua_gettop(L);
  if (type == LUA_TNIL) return dns;
  const bool has_timeout = lua_getfield(L, dns, "timeout") != LUA_TNIL;
  luaL_argcheck(L, !has_timeout, options, "option 'dns': the timeout of connect counts");
  lua_pop(L, 1);
  return dns;
}

/// connect(host, port[, options]), connect("unix:/path"[, options])
int connect(lua_State* L) {
  const char* host = check_path(L, 1);
  const bool is_unix = std::strncmp(host, "unix:", 5) == 0;
  const int options = is_unix ? 2 : 3;
  std::uint16_t port = 0;
  if (!is_unix) port = static_cast<std::uint16_t>(check_range(L, 2, 1, 65535));
  lua_settop(L, options);
  Instant deadline = kNever;
  DnsArguments dns;
  if (check_options(L, options, {"timeout", "dns"})) {
    deadline = option_deadline(L, options);
    dns = check_dns_options(L, dns_options(L, options));
  }
  PushStream push{};
  const char* about = is_unix ? host : lua_pushfstring(L, "%s:%d", host, static_cast<int>(port));
  std::strncpy(push.about, about, sizeof push.about - 1);
  return suspend_task<net::Socket>(
      L, [host, port, deadline, &dns] { return net::connect(std::string(host), port, deadline, dns.settings()); },
      push);
}

/// listen(address[, options])
int listen(lua_State* L) {
  const char* text = check_path(L, 1);
  net::ListenOptions options;
  if (check_options(L, 2, {"reuse_port", "backlog"})) {
    options.reuse_port = option_flag(L, 2, "reuse_port", false);
    const lua_Integer backlog = option_integer(L, 2, "backlog", options.backlog);
    luaL_argcheck(L, backlog >= 1 && backlog <= 1 << 20, 2, "option 'backlog' must be from 1 to 1048576");
    options.backlog = static_cast<int>(backlog);
  }
  auto* handle = new (lua_newuserdata(L, sizeof(ListenerHandle))) ListenerHandle;
  luaL_setmetatable(L, kListenerType);
  const Result<net::Address> address = net::Address::parse(text);
  const char* subject = lua_pushfstring(L, "listen %s", text);
  if (!address) {
    lua_pushfstring(L, "%s: an address like 127.0.0.1:80, [::1]:80 or unix:/path expected", subject);
    return push_failure(L, lua_tostring(L, -1), address.error().name());
  }
  Result<net::Listener> listener = net::listen(*address, options);
  if (!listener) return push_failure(L, listener.error(), subject);
  handle->listener.emplace(std::move(*listener));
  lua_pop(L, 1);
  return 1;
}

// -- streams: reading -----------------------------------------------------------------------------------------------

struct StreamRead : StepWait<StreamRead> {
  StreamRead(net::Stream& from, const net::ReadRequest& wanted, Instant until)
      : StepWait(OpCode::recv, from.socket().fd(), until), stream(from), request(wanted) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<StreamRead&>(self);
      wait.stream.begin_read(wait);
      wait.begin_steps(waiter);
    };
    finish = [](Suspension& self, lua_State* L) {
      const Result<std::string_view>& got = static_cast<StreamRead&>(self).answer;
      if (!got) return push_wait_failure(L, got.error());
      return PushBytes()(L, *got);
    };
  }
  bool advance() { return stream.advance_read(*this, request, answer); }

  net::Stream& stream;
  const net::ReadRequest request;
  Result<std::string_view> answer = std::string_view();
};

/// Answers from the buffer if it can, else waits.
int read_as(lua_State* L, const net::ReadRequest& request, Instant deadline) {
  net::Stream& stream = check_stream(L);
  Result<std::string_view> ready = std::string_view();
  if (!stream.try_read(request, ready)) return suspend<StreamRead>(L, stream, request, deadline);
  if (!ready) return push_failure(L, ready.error());
  return PushBytes()(L, *ready);
}

Instant read_deadline(lua_State* L, int index, std::initializer_list<const char*> known) {
  return check_options(L, index, known) ? option_deadline(L, index) : kNever;
}

using Kind = net::ReadRequest::Kind;

int read(lua_State* L) {
  (void)check_stream(L);
  net::ReadRequest request;
  if (lua_type(L, 2) != LUA_TSTRING || lua_isnumber(L, 2) != 0) {
    request.count = static_cast<std::size_t>(lua_isnoneornil(L, 2) ? 65536 : check_range(L, 2, 1, kReadMax));
    return read_as(L, request, read_deadline(L, 3, {"timeout"}));
  }
  const char* format = lua_tostring(L, 2);
  if (*format == '*') ++format;
  const bool is_line = *format == 'l' || *format == 'L';
  if (!is_line && *format != 'a') return luaL_argerror(L, 2, "a number of bytes, \"l\", \"L\" or \"a\" expected");
  const Instant deadline = read_deadline(L, 3, {"timeout", "limit"});
  const lua_Integer usual = is_line ? kLineMax : kReadMax;
  const lua_Integer limit = lua_istable(L, 3) ? option_integer(L, 3, "limit", usual) : usual;
  luaL_argcheck(L, limit >= 1 && limit <= kReadMax, 3, "option 'limit' must be from 1 to 2147483647");
  request.kind = is_line ? Kind::line : Kind::all;
  request.keep_delimiter = *format == 'L';
  request.count = static_cast<std::size_t>(limit);
  return read_as(L, request, deadline);
}

int read_exactly(lua_State* L) {
  (void)check_stream(L);
  net::ReadRequest request;
  request.kind = Kind::exactly;
  request.count = static_cast<std::size_t>(check_range(L, 2, 0, kReadMax));
  return read_as(L, request, read_deadline(L, 3, {"timeout"}));
}

/// read_until(delimiter[, limit[, options]]): up to and with the delimiter.
int read_until(lua_State* L) {
  (void)check_stream(L);
  net::ReadRequest request;
  request.kind = Kind::until;
  request.keep_delimiter = true;
  request.delimiter = check_bytes(L, 2);
  luaL_argcheck(L, !request.delimiter.empty(), 2, "delimiter must not be empty");
  request.count = static_cast<std::size_t>(lua_isnoneornil(L, 3) ? kLineMax : check_range(L, 3, 1, kReadMax));
  return read_as(L, request, read_deadline(L, 4, {"timeout"}));
}

/// for line in stream:lines([format]) do ... end
int lines(lua_State* L) {
  (void)check_stream(L);
  check_lines_argument(L);
  return push_iterator(L, read);
}

/// for chunk in stream:chunks([n]) do ... end
int chunks(lua_State* L) {
  (void)check_stream(L);
  check_chunk_size(L, 65536);
  return push_iterator(L, read);
}

// -- streams: writing -----------------------------------------------------------------------------------------------

struct StreamWrite : StepWait<StreamWrite> {
  StreamWrite(net::Stream& to, std::string_view what, Instant until)
      : StepWait(OpCode::send, to.socket().fd(), until), stream(to), bytes(what) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<StreamWrite&>(self);
      wait.answer = wait.stream.begin_write(wait, wait.bytes);
      if (wait.answer) {
        wait.begin_steps(waiter);
      } else {
        waiter.complete();
      }
    };
    finish = [](Suspension& self, lua_State* L) {
      const Result<void>& done = static_cast<StreamWrite&>(self).answer;
      if (!done) return push_wait_failure(L, done.error());
      return PushTrue()(L);
    };
  }
  bool advance() { return stream.advance_write(*this, bytes, answer); }

  net::Stream& stream;
  std::string_view bytes;
  Result<void> answer;
};

/// write(data[, options]): all of it.
int write(lua_State* L) {
  net::Stream& stream = check_stream(L);
  const std::string_view bytes = check_bytes(L, 2);
  return suspend<StreamWrite>(L, stream, bytes, read_deadline(L, 3, {"timeout"}));
}

/// Everything is on its way when write returns; flush is there because every stream has it.
int flush(lua_State* L) {
  (void)check_stream(L);
  lua_pushboolean(L, 1);
  return 1;
}

int shutdown(lua_State* L) {
  net::Stream& stream = check_stream(L);
  static const char* const names[] = {"write", "read", "both", nullptr};
  static const int ways[] = {SHUT_WR, SHUT_RD, SHUT_RDWR};
  const int how = ways[luaL_checkoption(L, 2, "write", names)];
  return suspend_task<void>(
      L, [&stream, how] { return stream.shutdown(how); }, PushTrue());
}

int close(lua_State* L) {
  net::Stream& stream = check_stream(L);
  if (!stream.is_open()) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return suspend_close(L, [&stream] { return stream.close(); });
}

// -- streams: the rest ----------------------------------------------------------------------------------------------

/// Calls `text_of`, which makes a std::string, so that nothing is alive when Lua may raise.
template <class Text>
int push_text(lua_State* L, Text text_of) {
  char copy[160];
  {
    const std::string text = text_of();
    const std::size_t size = std::min(text.size(), sizeof copy - 1);
    std::memcpy(copy, text.data(), size);
    copy[size] = '\0';
  }
  lua_pushstring(L, copy);
  return 1;
}

int set(lua_State* L) {
  net::Stream& stream = check_stream(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  (void)check_socket_options(L, 2, net::SocketOption::for_stream, {});
  if (!stream.is_open()) return push_failure(L, Error{EBADF, ErrorDomain::system, OpCode::nop}, "set");
  const int family = stream.socket().local_address().family();
  if (!apply_socket_options(L, 2, stream.socket().fd(), family, net::SocketOption::for_stream, false)) return 3;
  lua_pushboolean(L, 1);
  return 1;
}

int get(lua_State* L) {
  net::Stream& stream = check_stream(L);
  const int family = stream.is_open() ? stream.socket().local_address().family() : AF_INET;
  return push_socket_option(L, 2, stream.socket().fd(), family, net::SocketOption::for_stream);
}

int local_address(lua_State* L) {
  net::Stream& stream = check_stream(L);
  return push_text(L, [&] { return stream.socket().local_address().to_string(); });
}

int remote_address(lua_State* L) {
  net::Stream& stream = check_stream(L);
  return push_text(L, [&] { return stream.socket().remote_address().to_string(); });
}

int stream_to_string(lua_State* L) {
  net::Stream& stream = check_stream(L);
  return push_text(L, [&] {
    if (!stream.is_open()) return std::string("stream (closed)");
    if (stream.is_pipe()) return "pipe " + std::to_string(stream.socket().fd());
    const std::string local = stream.socket().local_address().to_string();
    const std::string remote = stream.socket().remote_address().to_string();
    const bool is_unix = local.rfind("unix:", 0) == 0;
    return (is_unix ? "" : "tcp ") + local + " <-> " + remote;
  });
}

int collect_stream(lua_State* L) {
  static_cast<StreamHandle*>(lua_touserdata(L, 1))->~StreamHandle();
  new (lua_touserdata(L, 1)) StreamHandle;
  return 0;
}

// -- listeners ------------------------------------------------------------------------------------------------------

struct PushAccepted {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, net::Socket& socket) const { return push_stream(L, socket); }
};

int accept(lua_State* L) {
  net::Listener& listener = check_listener(L);
  const Instant deadline = read_deadline(L, 2, {"timeout"});
  return suspend_task<net::Socket>(
      L, [&listener, deadline] { return listener.accept(deadline); }, PushAccepted());
}

/// for peer in listener:accept_each() do ... end: ends when the listener is closed.
int accept_each(lua_State* L) {
  (void)check_listener(L);
  lua_settop(L, 1);
  lua_pushnil(L);
  return push_iterator(L, accept);
}

int listener_address(lua_State* L) {
  net::Listener& listener = check_listener(L);
  return push_text(L, [&] { return listener.local_address().to_string(); });
}

int listener_port(lua_State* L) {
  lua_pushinteger(L, check_listener(L).local_address().port());
  return 1;
}

int close_listener(lua_State* L) {
  net::Listener& listener = check_listener(L);
  if (!listener.is_open()) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return suspend_close(L, [&listener] { return listener.close(); });
}

int listener_to_string(lua_State* L) {
  net::Listener& listener = check_listener(L);
  return push_text(L, [&] {
    return listener.is_open() ? "listener " + listener.local_address().to_string() : std::string("listener (closed)");
  });
}

int collect_listener(lua_State* L) {
  static_cast<ListenerHandle*>(lua_touserdata(L, 1))->~ListenerHandle();
  new (lua_touserdata(L, 1)) ListenerHandle;
  return 0;
}

}  // namespace

net::Stream* to_stream(lua_State* L, int index) {
  auto* handle = static_cast<StreamHandle*>(luaL_testudata(L, index, kStreamType));
  return handle != nullptr ? &*handle->stream : nullptr;
}

net::Listener* to_listener(lua_State* L, int index) {
  auto* handle = static_cast<ListenerHandle*>(luaL_testudata(L, index, kListenerType));
  return handle != nullptr ? &*handle->listener : nullptr;
}

void push_stream_of(lua_State* L, net::Socket& socket) { (void)push_stream(L, socket); }

void push_listener_of(lua_State* L, net::Socket& socket) {
  auto* handle = new (lua_newuserdata(L, sizeof(ListenerHandle))) ListenerHandle;
  handle->listener.emplace(std::move(socket), std::string());
  luaL_setmetatable(L, kListenerType);
}

void push_pipe(lua_State* L, net::Socket& end) { (void)push_stream(L, end, net::Stream::Kind::pipe); }

void define_stream_type(lua_State* L) {
  const bool is_there = luaL_getmetatable(L, kStreamType) != LUA_TNIL;
  lua_pop(L, 1);
  if (is_there) return;
  const luaL_Reg stream_methods[] = {{"read", read},
                                     {"read_exactly", read_exactly},
                                     {"read_until", read_until},
                                     {"lines", lines},
                                     {"chunks", chunks},
                                     {"write", write},
                                     {"flush", flush},
                                     {"send_handle", send_handle},
                                     {"receive_handle", receive_handle},
                                     {"shutdown", shutdown},
                                     {"close", close},
                                     {"set", set},
                                     {"get", get},
                                     {"local_address", local_address},
                                     {"remote_address", remote_address},
                                     {nullptr, nullptr}};
  const luaL_Reg stream_meta[] = {{"__tostring", stream_to_string}, {"__gc", collect_stream}, {nullptr, nullptr}};
  define_type(L, kStreamType, stream_methods, stream_meta);
}

int open_net(lua_State* L) {
  define_stream_type(L);
  const luaL_Reg listener_methods[] = {
      {"accept", accept},      {"accept_each", accept_each}, {"address", listener_address},
      {"port", listener_port}, {"close", close_listener},    {nullptr, nullptr}};
  const luaL_Reg listener_meta[] = {{"__tostring", listener_to_string}, {"__gc", collect_listener}, {nullptr, nullptr}};
  define_type(L, kListenerType, listener_methods, listener_meta);
  const luaL_Reg functions[] = {{"connect", connect}, {"listen", listen}, {nullptr, nullptr}};
  luaL_newlib(L, functions);
  open_datagram(L);
  return 1;
}

}  // namespace evlua::lua
