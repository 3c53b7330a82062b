// Operation -> system call, for backends that have no better way.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/op.h"

namespace evlua {

/// One attempt that must not block: -EAGAIN when the descriptor is not ready. EINTR is retried. `nonblocking` says that
/// the descriptor is O_NONBLOCK; if it is not, readiness is asked for first.
/// recv with a chosen buffer is the caller's matter: `args.recv.data` must be set.
std::int32_t perform_now(Op& op, bool nonblocking) noexcept;

/// Carries the operation out, however long it takes. After an interrupt it is retried unless `cancelled` is set; then
/// the result is -ECANCELED. [pool threads]
std::int32_t perform_blocking(Op& op, const std::atomic<bool>& cancelled) noexcept;

/// Closes a descriptor that nobody will take.
void close_orphan(int fd) noexcept;

}  // namespace evlua
