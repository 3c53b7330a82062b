// Operation -> system call, for backends that have no better way.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/op.h"

namespace evlua {

/// One attempt at an operation that does not block by nature or by O_NONBLOCK: the socket operations, poll, close,
/// shutdown, nop, and read and write if the descriptor is a socket or O_NONBLOCK. -EAGAIN when it must wait. EINTR is
/// retried. recv with a chosen buffer is the caller's matter: `args.recv.data` must be set. A connect begins with
/// `op.backend_data` 0, which is set to 1 once the kernel is at it and the next attempt shall ask how it went.
std::int32_t perform_now(Op& op) noexcept;

/// read and write on a socket: as perform_now, whether or not it is O_NONBLOCK, and without a signal from a broken one.
std::int32_t perform_on_socket(Op& op) noexcept;

/// read and write on any descriptor with RWF_NOWAIT: -EAGAIN when it would block, -EOPNOTSUPP when the file or the
/// kernel does not know how to tell.
std::int32_t perform_without_waiting(Op& op) noexcept;

/// poll(2) without waiting: the ready ones among `events`, or -EAGAIN.
std::int32_t ready_events(int fd, std::uint32_t events) noexcept;

/// Carries the operation out, however long it takes. After an interrupt it is retried unless `cancelled` is set; then
/// the result is -ECANCELED. [pool threads]
std::int32_t perform_blocking(Op& op, const std::atomic<bool>& cancelled) noexcept;

/// Frees what a finished operation that nobody takes has brought: a descriptor, or memory from malloc. Lent buffers are
/// the caller's matter.
void discard_result(Op& op) noexcept;

}  // namespace evlua
