// The waits of evlua.compat.native: for one socket, for several, for the end of one.
#include <lua.hpp>

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "lua/bridge.h"
#include "lua/compat.h"
#include "lua/stack.h"
#include "net/dns/poll_set.h"

namespace evlua::lua {

namespace {

using net::PlainSocket;

constexpr lua_Integer kReadable = 1;
constexpr lua_Integer kWritable = 2;

int push_true(lua_State* L) {
  lua_pushboolean(L, 1);
  return 1;
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
      return push_wait_failure(L, Error{-wait.polled, ErrorDomain::system, OpCode::poll});
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

struct SelectWait : OpWait {
  SelectWait(const pollfd* list, std::size_t count, Instant until) : OpWait(OpCode::poll, -1, until) {
    opened = set.open();
    for (std::size_t at = 0; at < count && opened; ++at) {
      if (list[at].fd < 0) continue;
      set.watch(list[at].fd, (list[at].events & POLLIN) != 0, (list[at].events & POLLOUT) != 0);
    }
    fd = set.fd();
    args.poll = {POLLIN};
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<SelectWait&>(self);
      const std::int32_t polled = wait.outcome();
      if (polled >= 0) return push_true(L);
      return push_wait_failure(L, Error{-polled, ErrorDomain::system, OpCode::poll});
    };
  }

  net::PollSet set;
  Result<void> opened;
};

/// Puts those that are ready into the list at index 1. Their number, or -1 with errno.
int look(lua_State* L, pollfd* list, std::size_t count) {
  const int some = ::poll(list, count, 0);
  if (some < 0) return errno == EINTR ? 0 : some;
  int ready = 0;
  for (std::size_t at = 0; at < count && some > 0; ++at) {
    const unsigned events = static_cast<unsigned>(list[at].revents);
    if ((events & POLLNVAL) != 0) {
      errno = EBADF;
      return -1;
    }
    lua_Integer bits = 0;
    if ((list[at].events & POLLIN) != 0 && (events & (POLLIN | POLLHUP | POLLERR)) != 0) bits |= kReadable;
    if ((list[at].events & POLLOUT) != 0 && (events & (POLLOUT | POLLHUP | POLLERR)) != 0) bits |= kWritable;
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
  auto* list = static_cast<pollfd*>(lua_newuserdata(L, std::max<std::size_t>(count, 1) * sizeof(pollfd)));
  for (std::size_t at = 0; at < count; ++at) {
    lua_rawgeti(L, 1, static_cast<lua_Integer>(2 * at + 1));
    lua_rawgeti(L, 1, static_cast<lua_Integer>(2 * at + 2));
    const lua_Integer bits = lua_tointeger(L, -1);
    const int events = ((bits & kReadable) != 0 ? POLLIN : 0) | ((bits & kWritable) != 0 ? POLLOUT : 0);
    const int fd = events != 0 ? static_cast<int>(lua_tointeger(L, -2)) : -1;  // of which nothing is asked
    list[at] = {fd, static_cast<short>(events), 0};
    lua_pop(L, 2);
  }
  if (waits) return suspend<SelectWait>(L, list, count, deadline);
  const int ready = look(L, list, count);
  if (ready < 0) return push_socket_error(L, errno);
  lua_pushinteger(L, ready);
  return 1;
}

}  // namespace evlua::lua
