#include "backends/perform.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace evlua {

namespace {

/// The call, once. The result is >= 0 or a negated errno.
template <class Number>
std::int32_t result_of(Number returned) noexcept {
  return returned < 0 ? -errno : static_cast<std::int32_t>(returned);
}

std::int32_t read_file(const Op& op) noexcept {
  const auto& read = op.args.read;
  return read.offset < 0 ? result_of(::read(op.fd, read.data, read.size))
                         : result_of(::pread(op.fd, read.data, read.size, read.offset));
}

std::int32_t write_file(const Op& op, std::uint32_t size) noexcept {
  const auto& write = op.args.write;
  return write.offset < 0 ? result_of(::write(op.fd, write.data, size))
                          : result_of(::pwrite(op.fd, write.data, size, write.offset));
}

std::int32_t start_connect(Op& op) noexcept {
  const std::int32_t result = result_of(::connect(op.fd, op.args.connect.address, op.args.connect.length));
  return result == -EINPROGRESS || result == -EINTR || result == -EALREADY ? -EAGAIN : result;
}

std::int32_t finish_connect(const Op& op) noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(op.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return -errno;
  if (error != 0) return -error;
  // Writable without an error may also mean "not begun": ask whether there is a peer.
  sockaddr_storage peer;
  socklen_t length = sizeof peer;
  if (::getpeername(op.fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0) return 0;
  return errno == ENOTCONN ? -EAGAIN : -errno;
}

std::int32_t poll_once(int fd, std::uint32_t events) noexcept {
  pollfd asked{fd, static_cast<short>(events), 0};
  const int count = ::poll(&asked, 1, 0);
  if (count < 0) return -errno;
  if ((asked.revents & POLLNVAL) != 0) return -EBADF;
  return count == 0 ? -EAGAIN : static_cast<std::int32_t>(asked.revents);
}

std::int32_t call(Op& op, std::uint32_t write_size) noexcept {
  switch (op.code) {
    case OpCode::accept:
      return result_of(
          ::accept4(op.fd, op.args.accept.address, op.args.accept.length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    case OpCode::connect: return op.backend_data == 0 ? start_connect(op) : finish_connect(op);
    case OpCode::recv:
      return result_of(::recv(op.fd, op.args.recv.data, op.args.recv.size, op.args.recv.flags | MSG_DONTWAIT));
    case OpCode::send:
      return result_of(
          ::send(op.fd, op.args.send.data, op.args.send.size, op.args.send.flags | MSG_DONTWAIT | MSG_NOSIGNAL));
    case OpCode::sendmsg:
      return result_of(::sendmsg(op.fd, op.args.message.message, op.args.message.flags | MSG_DONTWAIT | MSG_NOSIGNAL));
    case OpCode::recvmsg:
      return result_of(::recvmsg(op.fd, op.args.message.message, op.args.message.flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    case OpCode::shutdown: return result_of(::shutdown(op.fd, op.args.shutdown.how));
    case OpCode::close: {
      const std::int32_t result = result_of(::close(op.fd));
      return result == -EINTR ? 0 : result;  // close(2): on Linux the descriptor is gone
    }
    case OpCode::poll: return poll_once(op.fd, op.args.poll.events);
    case OpCode::open:
      return result_of(::openat(op.fd, op.args.open.path, op.args.open.flags | O_CLOEXEC, op.args.open.mode));
    case OpCode::read: return read_file(op);
    case OpCode::write: return write_file(op, write_size);
    case OpCode::fsync: return result_of(op.args.fsync.data_only ? ::fdatasync(op.fd) : ::fsync(op.fd));
    case OpCode::truncate: return result_of(::ftruncate(op.fd, op.args.truncate.size));
    case OpCode::stat:
      return result_of(
          ::statx(op.fd, op.args.stat.path, op.args.stat.flags, STATX_BASIC_STATS | STATX_BTIME, op.args.stat.out));
    case OpCode::rename:
      return result_of(::renameat2(AT_FDCWD, op.args.rename.from, AT_FDCWD, op.args.rename.to, op.args.rename.flags));
    case OpCode::unlink: return result_of(::unlinkat(AT_FDCWD, op.args.unlink.path, op.args.unlink.flags));
    case OpCode::mkdir: return result_of(::mkdirat(AT_FDCWD, op.args.mkdir.path, op.args.mkdir.mode));
    case OpCode::nop: return 0;
    case OpCode::sleep:
    case OpCode::task:
    case OpCode::resolve:
    case OpCode::protocol: break;
  }
  EVLUA_UNREACHABLE();
}

std::uint32_t events_of(const Op& op) noexcept { return waits_for_reading(op.code) ? POLLIN : POLLOUT; }

bool may_block(const Op& op) noexcept {
  return op.code == OpCode::accept || op.code == OpCode::read || op.code == OpCode::write;
}

}  // namespace

std::int32_t perform_now(Op& op, bool nonblocking) noexcept {
  std::uint32_t write_size = op.code == OpCode::write ? op.args.write.size : 0;
  if (!nonblocking && may_block(op)) {
    const std::int32_t readiness = poll_once(op.fd, events_of(op));
    if (readiness < 0) return readiness;
    // A pipe that is writable has room for PIPE_BUF bytes; more might block.
    write_size = std::min<std::uint32_t>(write_size, PIPE_BUF);
  }
  while (true) {
    const std::int32_t result = call(op, write_size);
    if (result == -EINTR) continue;
    return result == -EWOULDBLOCK ? -EAGAIN : result;
  }
}

std::int32_t perform_blocking(Op& op, const std::atomic<bool>& cancelled) noexcept {
  while (true) {
    if (cancelled.load(std::memory_order_relaxed)) return -ECANCELED;
    const std::int32_t result = call(op, op.code == OpCode::write ? op.args.write.size : 0);
    if (result != -EINTR) return result;
  }
}

void close_orphan(int fd) noexcept { ::close(fd); }

}  // namespace evlua
