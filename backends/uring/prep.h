// From an operation to a submission entry: the one place that knows how each kind is told to io_uring.
#pragma once

#include <liburing.h>

#include "core/op.h"

namespace evlua {

/// Fills the zeroed `sqe` from `op`; user_data stays the caller's. A recv without memory asks for a provided buffer.
void prepare(io_uring_sqe& sqe, const Op& op) noexcept;

/// Fills `sqe` to wait until `op`'s descriptor is ready in the direction the op needs.
void prepare_readiness(io_uring_sqe& sqe, const Op& op) noexcept;

/// Fills `sqe` to wait for `events` (POLLIN, ...) on `fd`, once.
void prepare_poll(io_uring_sqe& sqe, int fd, std::uint32_t events) noexcept;

}  // namespace evlua
