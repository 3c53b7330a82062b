// How many connections, or other things, each address has, over all workers of a server, so that no one takes up all.
//
// IPv6 counts by /64, since that is what one customer gets; IPv4 that is mapped into IPv6 counts as IPv4. An address
// without any takes no room.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "core/lockfree/futex_mutex.h"

namespace evlua::http {

/// The same for all addresses of one client: IPv4 in the low half, with a mark no IPv6 network has, or the /64. 0 for
/// other families.
std::uint64_t client_network(const sockaddr* address) noexcept;
/// The same of an address as text, with a port or without: "192.0.2.7:80", "[2001:db8::7]". What is no address is one
/// of its own.
std::uint64_t client_network(std::string_view text) noexcept;

/// Clients choose their addresses: where they are kept must not be known.
struct NetworkHash {
  std::size_t operator()(std::uint64_t network) const noexcept;
};

/// [any thread]
class AddressCount {
 public:
  /// Counts one more; false, and nothing is counted, if there are `most` already. 0 is no limit.
  bool enter(const sockaddr* address, std::uint32_t most) noexcept { return enter(client_network(address), most); }
  bool enter(std::uint64_t network, std::uint32_t most) noexcept;
  /// REQUIRES: enter was true for that address.
  void leave(const sockaddr* address) noexcept { leave(client_network(address)); }
  void leave(std::uint64_t network) noexcept;

 private:
  struct alignas(64) Shard {
    FutexMutex lock;
    std::unordered_map<std::uint64_t, std::uint32_t, NetworkHash> counts;
  };

  Shard& shard_of(std::uint64_t network) noexcept {
    return shards_[NetworkHash()(network) >> 32 & (shards_.size() - 1)];
  }

  std::array<Shard, 16> shards_;
};

}  // namespace evlua::http
