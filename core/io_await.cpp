#include "core/io_await.h"

#include <cerrno>

#include "core/worker.h"

namespace evlua {

bool IoAwait::begin(const TaskContext& context) noexcept {
  home = context.home;
  run = [](Runnable& self) noexcept { static_cast<IoAwait&>(self).handle_.resume(); };
  // Who awaits a close has given the descriptor away: one that does not happen, or is stopped, would leave it open.
  const bool may_stop = code != OpCode::close;
  if (may_stop && context.deadline < deadline) deadline = context.deadline;
  Worker& worker = Worker::current();
  worker.prepare(*this);
  if (may_stop && context.cancel != nullptr) {
    request_stop = [](CancelTarget& self, OpStop) noexcept { Worker::cancel(static_cast<IoAwait&>(self)); };
    if (!context.cancel->arm(*this)) {
      worker.abandon(*this, context.cancel->why());
      return false;
    }
    cancel_ = context.cancel;
  }
  worker.submit(*this);
  return true;
}

Result<Lease> RecvAwait::await_resume() noexcept {
  (void)IoAwait::await_resume();
  return received_by(*this);
}

Result<Lease> received_by(Op& op) noexcept {
  const std::int32_t result = op.outcome();
  if (result < 0) return fail(-result, op.code);
  return Lease::from(op, op.owner->backend().buffers());
}

namespace io {

IoAwait sleep_until(Instant deadline) noexcept { return IoAwait(OpCode::sleep, -1, deadline); }

IoAwait accept(int fd, sockaddr* address, socklen_t* length) noexcept {
  return IoAwait(OpCode::accept, fd, OpArgs{.accept = {address, length}});
}

IoAwait connect(int fd, const sockaddr* address, socklen_t length) noexcept {
  return IoAwait(OpCode::connect, fd, OpArgs{.connect = {address, length}});
}

IoAwait recv(int fd, void* data, std::uint32_t size, int flags) noexcept {
  return IoAwait(OpCode::recv, fd, OpArgs{.recv = {data, size, flags, false}});
}

IoAwait send(int fd, const void* data, std::uint32_t size, int flags) noexcept {
  return IoAwait(OpCode::send, fd, OpArgs{.send = {data, size, flags}});
}

IoAwait sendmsg(int fd, msghdr* message, int flags) noexcept {
  return IoAwait(OpCode::sendmsg, fd, OpArgs{.message = {message, flags}});
}

IoAwait recvmsg(int fd, msghdr* message, int flags) noexcept {
  return IoAwait(OpCode::recvmsg, fd, OpArgs{.message = {message, flags}});
}

IoAwait shutdown(int fd, int how) noexcept { return IoAwait(OpCode::shutdown, fd, OpArgs{.shutdown = {how}}); }

IoAwait close(int fd) noexcept { return IoAwait(OpCode::close, fd); }

IoAwait poll(int fd, std::uint32_t events) noexcept { return IoAwait(OpCode::poll, fd, OpArgs{.poll = {events}}); }

IoAwait open(int directory, const char* path, int flags, mode_t mode) noexcept {
  return IoAwait(OpCode::open, directory, OpArgs{.open = {path, flags, mode}});
}

IoAwait read(int fd, void* data, std::uint32_t size, std::int64_t offset) noexcept {
  return IoAwait(OpCode::read, fd, OpArgs{.read = {data, size, offset}});
}

IoAwait write(int fd, const void* data, std::uint32_t size, std::int64_t offset) noexcept {
  return IoAwait(OpCode::write, fd, OpArgs{.write = {data, size, offset}});
}

IoAwait fsync(int fd, bool data_only) noexcept { return IoAwait(OpCode::fsync, fd, OpArgs{.fsync = {data_only}}); }

IoAwait truncate(int fd, std::int64_t size) noexcept {
  return IoAwait(OpCode::truncate, fd, OpArgs{.truncate = {size}});
}

IoAwait stat(int directory, const char* path, int flags, struct statx* out) noexcept {
  return IoAwait(OpCode::stat, directory, OpArgs{.stat = {path, flags, out}});
}

IoAwait rename(const char* from, const char* to, unsigned flags) noexcept {
  return IoAwait(OpCode::rename, -1, OpArgs{.rename = {from, to, flags}});
}

IoAwait unlink(const char* path, int flags) noexcept {
  return IoAwait(OpCode::unlink, -1, OpArgs{.unlink = {path, flags}});
}

IoAwait mkdir(const char* path, mode_t mode) noexcept {
  return IoAwait(OpCode::mkdir, -1, OpArgs{.mkdir = {path, mode}});
}

}  // namespace io

}  // namespace evlua
