// The awaiter of one operation: it *is* the operation, so waiting allocates nothing.
//
//   IoAwait op(OpCode::recv, fd, OpArgs{.recv = {data, size, 0, false}});
//   op.until(deadline);
//   Result<int32_t> got = co_await op;     // and again, once it is over, to repeat it
//
// Whatever the op points to (buffers, paths, addresses) must live in the awaiting frame until the co_await is over.
#pragma once

#include <coroutine>
#include <cstdint>

#include "core/buffer.h"
#include "core/cancel.h"
#include "core/error.h"
#include "core/op.h"
#include "core/task.h"

namespace evlua {

class [[nodiscard]] IoAwait : public Op, private CancelTarget {
 public:
  IoAwait(OpCode op_code, int descriptor, const OpArgs& arguments = {}) noexcept : Op(op_code, descriptor) {
    args = arguments;
  }
  IoAwait(OpCode op_code, int descriptor, Instant until) noexcept : Op(op_code, descriptor) { deadline = until; }

  /// Limits the wait. The context's deadline applies as well.
  IoAwait& until(Instant latest) noexcept {
    deadline = latest;
    return *this;
  }

  bool await_ready() const noexcept { return false; }

  template <class Awaiting>
  bool await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    return begin(awaiting.promise().context);
  }

  /// The non-negative result, or the error: ETIMEDOUT after a deadline, ECANCELED after a cancellation.
  Result<std::int32_t> await_resume() noexcept {
    if (cancel_ != nullptr) cancel_->disarm();
    const std::int32_t result = outcome();
    if (result < 0) return fail(-result, code);
    return result;
  }

 private:
  /// False: the chain is cancelled already, so the op ended without being submitted.
  bool begin(const TaskContext& context) noexcept;

  std::coroutine_handle<> handle_;
  CancelState* cancel_ = nullptr;
};

/// A receive into a buffer that the backend picks when data is there.
class [[nodiscard]] RecvAwait : public IoAwait {
 public:
  enum class Mode : std::uint8_t {
    once,
    ahead,  ///< the next receive comes from this worker, too: the backend need not wait for it
    rest,   ///< ends that; brings what was received already, or nothing
  };

  explicit RecvAwait(int descriptor, Mode mode = Mode::once) noexcept
      : IoAwait(mode == Mode::rest ? OpCode::recv_rest : OpCode::recv, descriptor) {
    args.recv.ahead = mode == Mode::ahead;
  }
  /// An empty lease means end of stream.
  Result<Lease> await_resume() noexcept;
};

/// What such a receive has brought, once it is over.
Result<Lease> received_by(Op& op) noexcept;

/// Makers of operations. Each may be awaited, once, in the frame that holds it.
namespace io {

IoAwait sleep_until(Instant deadline) noexcept;
IoAwait accept(int fd, sockaddr* address, socklen_t* length) noexcept;
IoAwait connect(int fd, const sockaddr* address, socklen_t length) noexcept;
IoAwait recv(int fd, void* data, std::uint32_t size, int flags = 0) noexcept;
IoAwait send(int fd, const void* data, std::uint32_t size, int flags = 0) noexcept;
IoAwait sendmsg(int fd, msghdr* message, int flags = 0) noexcept;
IoAwait recvmsg(int fd, msghdr* message, int flags = 0) noexcept;
IoAwait shutdown(int fd, int how) noexcept;
IoAwait close(int fd) noexcept;
IoAwait poll(int fd, std::uint32_t events) noexcept;
IoAwait open(int directory, const char* path, int flags, mode_t mode) noexcept;
IoAwait read(int fd, void* data, std::uint32_t size, std::int64_t offset) noexcept;
IoAwait write(int fd, const void* data, std::uint32_t size, std::int64_t offset) noexcept;
IoAwait fsync(int fd, bool data_only) noexcept;
IoAwait truncate(int fd, std::int64_t size) noexcept;
IoAwait stat(int directory, const char* path, int flags, struct statx* out) noexcept;
IoAwait rename(const char* from, const char* to, unsigned flags) noexcept;
IoAwait unlink(const char* path, int flags) noexcept;
IoAwait mkdir(const char* path, mode_t mode) noexcept;

}  // namespace io

}  // namespace evlua
