#include "backends/perform.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "backends/descriptor_age.h"

namespace evlua {

namespace {

/// What a system call returned: >= 0, or a negated errno.
template <class Number>
std::int32_t result_of(Number returned) noexcept {
  return returned < 0 ? -errno : static_cast<std::int32_t>(returned);
}

template <class Call>
std::int32_t retry_interrupted(Call call) noexcept {
  while (true) {
    const std::int32_t result = call();
    if (result != -EINTR) return result;
  }
}

/// Path operations that name no directory start at the working directory.
int directory(const Op& op) noexcept { return op.fd == -1 ? AT_FDCWD : op.fd; }

std::int32_t read_file(const Op& op) noexcept {
  const auto& read = op.args.read;
  return read.offset < 0 ? result_of(::read(op.fd, read.data, read.size))
                         : result_of(::pread(op.fd, read.data, read.size, read.offset));
}

std::int32_t write_file(const Op& op) noexcept {
  const auto& write = op.args.write;
  return write.offset < 0 ? result_of(::write(op.fd, write.data, write.size))
                          : result_of(::pwrite(op.fd, write.data, write.size, write.offset));
}

std::int32_t splice_file(const Op& op) noexcept {
  const auto& splice = op.args.splice;
  loff_t offset = splice.offset;
  return splice.from_pipe
             ? result_of(::splice(splice.pipe, nullptr, op.fd, &offset, splice.size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE))
             : result_of(
                   ::splice(op.fd, &offset, splice.pipe, nullptr, splice.size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE));
}

std::int32_t start_connect(Op& op) noexcept {
  const std::int32_t result = result_of(::connect(op.fd, op.args.connect.address, op.args.connect.length));
  if (result == -EINPROGRESS || result == -EALREADY) {
    op.backend_data = 1;
    return -EAGAIN;
  }
  return result;  // EAGAIN itself: the listener's queue is full (Unix domain), the connect has not begun
}

std::int32_t finish_connect(Op& op) noexcept {
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(op.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return -errno;
  if (error != 0) return -error;
  sockaddr_storage peer;
  socklen_t length = sizeof(peer);
  if (::getpeername(op.fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0) return 0;
  if (errno != ENOTCONN) return -errno;
  // No error and no peer: woken too early, or a receive on the same socket took the error. The kernel knows which.
  op.backend_data = 0;
  const std::int32_t result = start_connect(op);
  return result == -EISCONN ? 0 : result;
}

std::int32_t close_descriptor(int fd) noexcept {
  if (fd >= 0) note_close(fd);
  const std::int32_t result = result_of(::close(fd));
  return result == -EINTR ? 0 : result;  // close(2): on Linux the descriptor is gone
}

/// The call, once.
std::int32_t call(Op& op) noexcept {
  const auto& args = op.args;
  switch (op.code) {
    case OpCode::accept:
      return result_of(::accept4(op.fd, args.accept.address, args.accept.length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    case OpCode::connect: return op.backend_data == 0 ? start_connect(op) : finish_connect(op);
    case OpCode::recv: return result_of(::recv(op.fd, args.recv.data, args.recv.size, args.recv.flags | MSG_DONTWAIT));
    case OpCode::send:
      return result_of(::send(op.fd, args.send.data, args.send.size, args.send.flags | MSG_DONTWAIT | MSG_NOSIGNAL));
    case OpCode::sendmsg:
      return result_of(::sendmsg(op.fd, args.message.message, args.message.flags | MSG_DONTWAIT | MSG_NOSIGNAL));
    case OpCode::recvmsg:
      return result_of(::recvmsg(op.fd, args.message.message, args.message.flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    case OpCode::shutdown: return result_of(::shutdown(op.fd, args.shutdown.how));
    case OpCode::close: return close_descriptor(op.fd);
    case OpCode::poll: return ready_events(op.fd, args.poll.events);
    case OpCode::open:
      return result_of(::openat(directory(op), args.open.path, args.open.flags | O_CLOEXEC, args.open.mode));
    case OpCode::read: return read_file(op);
    case OpCode::write: return write_file(op);
    case OpCode::fsync: return result_of(args.fsync.data_only ? ::fdatasync(op.fd) : ::fsync(op.fd));
    case OpCode::truncate: return result_of(::ftruncate(op.fd, args.truncate.size));
    case OpCode::splice: return splice_file(op);
    case OpCode::stat:
      return result_of(
          ::statx(directory(op), args.stat.path, args.stat.flags, STATX_BASIC_STATS | STATX_BTIME, args.stat.out));
    case OpCode::rename:
      return result_of(::renameat2(directory(op), args.rename.from, directory(op), args.rename.to, args.rename.flags));
    case OpCode::unlink: return result_of(::unlinkat(directory(op), args.unlink.path, args.unlink.flags));
    case OpCode::mkdir: return result_of(::mkdirat(directory(op), args.mkdir.path, args.mkdir.mode));
    case OpCode::nop: return 0;
    case OpCode::recv_rest: return 0;
    case OpCode::sleep:
    case OpCode::task:
    case OpCode::resolve:
    case OpCode::protocol: break;
  }
  EVLUA_UNREACHABLE();
}

}  // namespace

std::int32_t perform_now(Op& op) noexcept {
  return retry_interrupted([&op] { return call(op); });
}

std::int32_t perform_on_socket(Op& op) noexcept {
  if (op.code == OpCode::read && op.args.read.offset < 0) {
    return retry_interrupted(
        [&op] { return result_of(::recv(op.fd, op.args.read.data, op.args.read.size, MSG_DONTWAIT)); });
  }
  if (op.code == OpCode::write && op.args.write.offset < 0) {
    return retry_interrupted([&op] {
      return result_of(::send(op.fd, op.args.write.data, op.args.write.size, MSG_DONTWAIT | MSG_NOSIGNAL));
    });
  }
  return perform_now(op);  // with an offset: ESPIPE
}

std::int32_t perform_without_waiting(Op& op) noexcept {
  const bool reading = op.code == OpCode::read;
  iovec part{reading ? op.args.read.data : const_cast<void*>(op.args.write.data),
             reading ? op.args.read.size : op.args.write.size};
  const std::int64_t offset = reading ? op.args.read.offset : op.args.write.offset;
  const std::int32_t result = retry_interrupted([&] {
    return result_of(reading ? ::preadv2(op.fd, &part, 1, offset, RWF_NOWAIT)
                             : ::pwritev2(op.fd, &part, 1, offset, RWF_NOWAIT));
  });
  return result == -ENOSYS ? -EOPNOTSUPP : result;
}

std::int32_t ready_events(int fd, std::uint32_t events) noexcept {
  pollfd asked{fd, static_cast<short>(events), 0};
  const int count = ::poll(&asked, 1, 0);
  if (count < 0) return -errno;
  if ((asked.revents & POLLNVAL) != 0) return -EBADF;
  return count == 0 ? -EAGAIN : static_cast<std::int32_t>(asked.revents);
}

std::int32_t perform_blocking(Op& op, const std::atomic<bool>& cancelled) noexcept {
  while (true) {
    if (cancelled.load(std::memory_order_relaxed)) return -ECANCELED;
    const std::int32_t result = call(op);
    if (result != -EINTR) return result;
  }
}

void discard_result(Op& op) noexcept {
  if (returns_descriptor(op.code) && op.res >= 0) (void)close_descriptor(op.res);
  if ((op.code == OpCode::recv || op.code == OpCode::recv_rest) && op.buffer == kHeapBuffer) {
    std::free(op.args.recv.data);
    op.buffer = kNoBuffer;
  }
}

}  // namespace evlua
