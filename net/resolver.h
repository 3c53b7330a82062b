// Name resolution as the system does it: getaddrinfo on the blocking pool.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/task.h"
#include "net/address.h"

namespace evlua::net {

/// The addresses of `host`, best first. Numeric hosts are answered at once. The call cannot be interrupted: when the
/// deadline passes or the caller is cancelled it goes on in the background, and its answer is dropped.
Task<Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port, Instant deadline = kNever);

}  // namespace evlua::net
