// Making connections.
#pragma once

#include <string>
#include <vector>

#include "core/task.h"
#include "core/time.h"
#include "net/address.h"
#include "net/dns/settings.h"
#include "net/socket.h"

namespace evlua::net {

Task<Result<Socket>> connect(Address address, Instant deadline = kNever);

/// How long an address may take before the next one is tried beside it (RFC 8305, "Connection Attempt Delay").
inline constexpr Duration kAttemptDelay = 250 * kMillisecond;

/// Tries the addresses, which are given best first, until one is connected: those of IPv6 and IPv4 by turns; the next
/// one as soon as one has failed, or kAttemptDelay after the one before. The others are closed. The error is that of
/// the last to fail.
Task<Result<Socket>> connect_first(std::vector<Address> addresses, Instant deadline = kNever);

/// Resolves `host` and tries its addresses. `host` may be "unix:/path".
Task<Result<Socket>> connect(std::string host, std::uint16_t port, Instant deadline, DnsSettings settings);
Task<Result<Socket>> connect(std::string host, std::uint16_t port, Instant deadline = kNever);

}  // namespace evlua::net
