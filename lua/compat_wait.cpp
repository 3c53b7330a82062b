// The waits of evlua.compat.native: for one socket, for several, for the end of one.
#include <lua.hpp>

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <span>

#include "lua/bridge.h"
#include "lua/compat.h"
#include "lua/stack.h"
#include "net/dns/poll_set.h"

namespace evlua::lua {

namespace {

using net::PlainSocket;

constexpr lua_Integer kReadable = 1;
constexpr lua_Integer kWritable = 2;

/// That the time of an evlua.timeout is over is another thing than that of the socket is.
int push_unready(lua_State* L, std::int32_t polled) {
  const Fiber* fiber = Vm::of(L).running();
  if (fiber != nullptr && fiber->cancelled() == OpStop::deadline && !fiber->shielded()) {
    return push_failure(L, "timed out", "ECANCELED");
  }
  return push_wait_failure(L, Error{-polled, ErrorDomain::system, OpCode::poll});
}

/// A close cannot be refused: it is carried out even in a cancelled task.
struct SocketClose : OpWait {
  explicit SocketClose(int descriptor) : OpWait(OpCode::close, descriptor, kNever) {
    cancel = [](Suspension&) noexcept {};
    finish = [](Suspension&, lua_State*) { return 0; };
  }
};

struct SocketWait : StepWait<SocketWait> {
  SocketWait(PlainSocket& of, std::uint32_t events, Instant until)
      : StepWait(OpCode::poll, of.fd(), until), socket(of) {
    args.poll = {events};
    start = [](Suspension& self, Fiber& waiting) {
      auto& wait = static_cast<SocketWait&>(self);
      wait.socket.enter(wait.waiter, wait);
      wait.begin_steps(waiting);
    };
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<SocketWait&>(self);
      if (wait.waiter.dismissed) return push_socket_error(L, ECONNABORTED);
      if (wait.polled >= 0) return push_true(L);
      return push_unready(L, wait.polled);
    };
  }
  bool advance() {
    polled = outcome();
    socket.leave(waiter);
    return true;
  }

  PlainSocket& socket;
  PlainSocket::Waiter waiter;
  std::int32_t polled = 0;
};

/// One of those that select is asked about; they are in a userdata that lives as long as the call.
struct Asked {
  PlainSocket* socket;  ///< null: just a descriptor
  int descriptor;
  short events;
  PlainSocket::Waiter waiter;

  int fd() const { return socket != nullptr ? socket->fd() : descriptor; }
  bool is_closed() const { return events != 0 && socket != nullptr && !socket->is_open(); }
};

struct SelectWait : StepWait<SelectWait> {
  SelectWait(std::span<Asked> list, Instant until) : StepWait(OpCode::poll, -1, until), asked(list) {
    (void)set.open();  // without one the operation fails
    fd = set.fd();
    args.poll = {POLLIN};
    start = [](Suspension& self, Fiber& waiting) {
      auto& wait = static_cast<SelectWait&>(self);
      for (Asked& one : wait.asked) {
        if (one.events == 0) continue;
        wait.set.watch(one.fd(), (one.events & POLLIN) != 0, (one.events & POLLOUT) != 0);
        if (one.socket != nullptr) one.socket->enter(one.waiter, wait);
      }
      wait.begin_steps(waiting);
    };
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<SelectWait&>(self);
      if (wait.dismissed || wait.polled >= 0) return push_true(L);
      return push_unready(L, wait.polled);
    };
  }
  bool advance() {
    polled = outcome();
    for (Asked& one : asked) {
      if (one.events == 0 || one.socket == nullptr) continue;
      dismissed = dismissed || one.waiter.dismissed;
      one.socket->leave(one.waiter);
    }
    return true;
  }

  std::span<Asked> asked;
  net::PollSet set;
  std::int32_t polled = 0;
  bool dismissed = false;
};

/// Puts those that are ready into the list at index 1. Their number, or -1 with errno.
int look(lua_State* L, std::span<const Asked> asked) {
  auto* polled = static_cast<pollfd*>(lua_newuserdata(L, std::max<std::size_t>(asked.size(), 1) * sizeof(pollfd)));
  std::size_t count = 0;
  // Of which nothing is asked: no descriptor.
  for (const Asked& one : asked) polled[count++] = {one.events != 0 ? one.fd() : -1, one.events, 0};
  if (::poll(polled, count, 0) < 0) return errno == EINTR ? 0 : -1;
  int ready = 0;
  for (std::size_t at = 0; at < count; ++at) {
    const unsigned events = static_cast<unsigned>(polled[at].revents);
    if ((events & POLLNVAL) != 0) {
      errno = EBADF;
      return -1;
    }
    const bool all = (events & (POLLHUP | POLLERR)) != 0 || asked[at].is_closed();
    lua_Integer bits = 0;
    if ((asked[at].events & POLLIN) != 0 && (all || (events & POLLIN) != 0)) bits |= kReadable;
    if ((asked[at].events & POLLOUT) != 0 && (all || (events & POLLOUT) != 0)) bits |= kWritable;
    if (bits != 0) ++ready;
    lua_pushinteger(L, bits);
    lua_rawseti(L, 1, static_cast<lua_Integer>(2 * at + 2));
  }
  return ready;
}

}  // namespace

int close_plain_socket(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  Fiber* fiber = Vm::of(L).running();
  if (fiber == nullptr || !fiber->may_wait(L)) {
    socket.close();
    return 0;
  }
  const int fd = socket.detach();
  if (fd < 0) return 0;
  fiber->emplace<SocketClose>(fd);
  return lua_yieldk(L, 0, 0, &continue_wait);
}

int wait_plain_socket(lua_State* L) {
  PlainSocket& socket = check_plain_socket(L);
  const Instant deadline = check_timeout(L, 3);
  if (!socket.is_open()) return push_socket_error(L, ECONNABORTED);
  const std::uint32_t events = lua_toboolean(L, 2) != 0 ? POLLOUT : POLLIN;
  return suspend<SocketWait>(L, socket, events, deadline);
}

int select_plain_sockets(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const Instant deadline = check_timeout(L, 3);
  const bool waits = lua_toboolean(L, 2) != 0;
  lua_settop(L, 1);
  const std::size_t count = lua_rawlen(L, 1) / 2;
  auto* list = static_cast<Asked*>(lua_newuserdata(L, std::max<std::size_t>(count, 1) * sizeof(Asked)));
  for (std::size_t at = 0; at < count; ++at) {
    lua_rawgeti(L, 1, static_cast<lua_Integer>(2 * at + 1));
    lua_rawgeti(L, 1, static_cast<lua_Integer>(2 * at + 2));
    const lua_Integer bits = lua_tointeger(L, -1);
    const int events = ((bits & kReadable) != 0 ? POLLIN : 0) | ((bits & kWritable) != 0 ? POLLOUT : 0);
    auto* one = new (list + at) Asked{to_plain_socket(L, -2), static_cast<int>(lua_tointeger(L, -2)), 0, {}};
    one->events = static_cast<short>(events);
    lua_pop(L, 2);
  }
  const std::span<Asked> asked(list, count);
  if (waits) {
    if (std::any_of(list, list + count, [](const Asked& one) { return one.is_closed(); })) return push_true(L);
    return suspend<SelectWait>(L, asked, deadline);
  }
  const int ready = look(L, asked);
  if (ready < 0) return push_socket_error(L, errno);
  lua_pushinteger(L, ready);
  return 1;
}

}  // namespace evlua::lua
