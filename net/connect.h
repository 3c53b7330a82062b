// Making connections.
#pragma once

#include <string>

#include "core/task.h"
#include "net/address.h"
#include "net/socket.h"

namespace evlua::net {

Task<Result<Socket>> connect(Address address, Instant deadline = kNever);

/// Resolves `host` and tries its addresses in turn; the error is the last one's. `host` may be "unix:/path".
Task<Result<Socket>> connect(std::string host, std::uint16_t port, Instant deadline = kNever);

}  // namespace evlua::net
