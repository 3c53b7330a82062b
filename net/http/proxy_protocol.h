// The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): what a load balancer says in front of a
// connection's first byte, of whom it speaks for. No I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "net/address.h"

namespace evlua::http {

/// Of a header of version 2, behind its first 16 bytes; what says more is invalid. A header of version 1 has 107 bytes
/// at most.
inline constexpr std::size_t kProxyHeaderMax = 4096;

struct ProxyHeader {
  enum class Outcome : std::uint8_t { incomplete, invalid, complete };

  Outcome outcome = Outcome::incomplete;
  std::size_t size = 0;  ///< complete: the bytes that it takes; what follows is the connection's
  /// complete, and the header says who is connected to whom. Otherwise the connection speaks for itself (a health
  /// check), or of a family that we do not know.
  bool has_addresses = false;
  net::Address source;
  net::Address destination;
};

/// `received` is all that came of the connection so far. Once complete or invalid, it is so whatever follows.
ProxyHeader parse_proxy_header(std::string_view received) noexcept;

}  // namespace evlua::http
