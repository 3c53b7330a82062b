// stream:send_handle and stream:receive_handle: open streams, listeners, datagram sockets and files go to another
// process.
#include <lua.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "lua/bridge.h"
#include "lua/file_handle.h"
#include "lua/fs_values.h"
#include "lua/net_values.h"
#include "lua/stack.h"
#include "net/descriptors.h"

namespace evlua::lua {

namespace {

net::Stream& check_carrier(lua_State* L) {
  net::Stream* stream = to_stream(L, 1);
  if (stream == nullptr) luaL_argerror(L, 1, "a stream expected");
  return *stream;
}

const char* const kOnlyUnix = "descriptors can be sent and received over Unix-domain streams only";

int push_handle_failure(lua_State* L, const Error& error) {
  if (error.is(EOPNOTSUPP)) return push_failure(L, kOnlyUnix, "EOPNOTSUPP");
  if (error.is(ENOMSG)) return push_failure(L, "the next bytes come without a descriptor; read them", "ENOMSG");
  if (error.is(EMSGSIZE)) {
    return push_failure(L, "more than one descriptor came, or not all arrived; they are closed", "EMSGSIZE");
  }
  return push_wait_failure(L, error);
}

// -- sending --------------------------------------------------------------------------------------------------------

/// What is to be sent, at index 2.
struct Parcel {
  int fd = -1;
  net::Listener* listener = nullptr;
  net::DatagramSocket* datagram = nullptr;
};

/// -1 in fd: `nil, message, code` are on the stack.
Parcel check_parcel(lua_State* L) {
  Parcel parcel;
  if (const net::Stream* stream = to_stream(L, 2)) {
    if (stream->is_open()) parcel.fd = stream->socket().fd();
    if (stream->is_open() && (stream->buffered() > 0 || stream->is_read())) {
      (void)push_failure(L, "the stream has received bytes that were not read, or is being read", "EBUSY");
      parcel.fd = -1;
      return parcel;
    }
  } else if (net::Listener* listener = to_listener(L, 2)) {
    parcel.listener = listener;
    if (listener->is_open()) parcel.fd = listener->fd();
  } else if (net::DatagramSocket* socket = to_datagram(L, 2)) {
    parcel.datagram = socket;
    if (socket->is_open()) parcel.fd = socket->socket().fd();
  } else if (const FileHandle* file = to_file_handle(L, 2)) {
    if (!file->closed) parcel.fd = file->file.fd();
    // Ours is not in the descriptor otherwise.
    if (parcel.fd >= 0 && file->position >= 0) (void)::lseek(parcel.fd, file->tell(), SEEK_SET);
  } else {
    const char* what = luaL_tolstring(L, 2, nullptr);
    luaL_argerror(L, 2,
                  lua_pushfstring(L, "a stream, listener, datagram socket or file of evlua.fs expected, got %s", what));
  }
  if (parcel.fd < 0) (void)push_failure(L, "what is to be sent is closed", "EBADF");
  return parcel;
}

/// Failures have messages of our own, which is why they are values.
struct Sent {
  Result<void> outcome;
};

struct PushHandleSent {
  Parcel parcel;
  static const char* subject() noexcept { return nullptr; }
  int operator()(lua_State* L, const Sent& sent) const {
    if (!sent.outcome) return push_handle_failure(L, sent.outcome.error());
    // Closing ours must not take away the receiver's name.
    if (parcel.listener != nullptr) parcel.listener->leave_file();
    if (parcel.datagram != nullptr) parcel.datagram->leave_file();
    lua_pushboolean(L, 1);
    return 1;
  }
};

Task<Result<Sent>> send_parcel(net::Stream& stream, int fd, std::string_view data, Instant deadline) {
  Sent sent;
  sent.outcome = co_await net::send_descriptor(stream, fd, data, deadline);
  co_return sent;
}

// -- receiving ------------------------------------------------------------------------------------------------------

/// Pushes the object for a socket of one of the kinds that we have; false for others.
bool push_socket(lua_State* L, net::Socket& socket) {
  int type = 0;
  int listens = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) return false;
  if (type == SOCK_DGRAM) {
    push_datagram_of(L, socket);
    return true;
  }
  if (type != SOCK_STREAM) return false;
  size = sizeof listens;
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0) {
    push_listener_of(L, socket);
  } else {
    push_stream_of(L, socket);
  }
  return true;
}

bool push_object(lua_State* L, net::Socket& descriptor) {
  struct stat info {};
  if (::fstat(descriptor.fd(), &info) != 0) return false;
  if (S_ISSOCK(info.st_mode)) return push_socket(L, descriptor);
  const int flags = ::fcntl(descriptor.fd(), F_GETFL);
  if (flags < 0 || (flags & O_PATH) != 0) return false;
  if (S_ISFIFO(info.st_mode)) {
    push_pipe(L, descriptor);
    return true;
  }
  if (!S_ISREG(info.st_mode) && !S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode)) return false;
  push_received_file(L, descriptor, flags);
  return true;
}

struct Received {
  Result<net::ReceivedDescriptor> outcome = fail(ECANCELED);
};

struct PushHandleReceived {
  net::Stream* stream;
  static const char* subject() noexcept { return nullptr; }
  int operator()(lua_State* L, Received& received) const {
    Result<net::ReceivedDescriptor>& got = received.outcome;
    if (!got) return push_handle_failure(L, got.error());
    if (!push_object(L, got->descriptor)) {
      got->descriptor.reset();
      if (stream->is_open()) stream->put_back(got->data);
      return push_failure(L, "a descriptor came of a kind that nothing here is for; it is closed", "EPROTONOSUPPORT");
    }
    lua_pushlstring(L, got->data.data(), got->data.size());
    return 2;
  }
};

Task<Result<Received>> receive_parcel(net::Stream& stream, Instant deadline) {
  Received received;
  received.outcome = co_await net::receive_descriptor(stream, deadline);
  co_return received;
}

}  // namespace

/// send_handle(what [, data [, options]])
int send_handle(lua_State* L) {
  net::Stream& stream = check_carrier(L);
  lua_settop(L, 4);
  if (lua_isnil(L, 3)) {
    lua_pushlstring(L, "\0", 1);
    lua_replace(L, 3);
  }
  const std::string_view data = check_bytes(L, 3);
  luaL_argcheck(L, !data.empty() && data.size() <= net::kDescriptorDataMax, 3, "1 to 4096 bytes expected");
  const Instant deadline = deadline_option(L, 4);
  const Parcel parcel = check_parcel(L);
  if (parcel.fd < 0) return 3;
  return suspend_task<Sent>(
      L, [&stream, parcel, data, deadline] { return send_parcel(stream, parcel.fd, data, deadline); },
      PushHandleSent{parcel});
}

/// receive_handle([options]) -> handle, data
int receive_handle(lua_State* L) {
  net::Stream& stream = check_carrier(L);
  const Instant deadline = deadline_option(L, 2);
  define_file_type(L);
  return suspend_task<Received>(
      L, [&stream, deadline] { return receive_parcel(stream, deadline); }, PushHandleReceived{&stream});
}

}  // namespace evlua::lua
