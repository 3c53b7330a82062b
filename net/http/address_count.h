// How many connections each address has open, over all workers of a server, so that no one takes up all of them.
//
// IPv6 counts by /64, since that is what one customer gets; IPv4 that is mapped into IPv6 counts as IPv4. An address
// without connections takes no room.
#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <unordered_map>

#include "core/lockfree/futex_mutex.h"
#include "core/time.h"

namespace evlua::http {

/// The same for all addresses of one client: IPv4 in the low half, with a mark no IPv6 network has, or the /64. 0 for
/// other families.
std::uint64_t client_network(const sockaddr* address) noexcept;

/// [any thread]
class AddressCount {
 public:
  /// Counts one more; false, and nothing is counted, if there are `most` already. 0 is no limit.
  bool enter(const sockaddr* address, std::uint32_t most) noexcept;
  /// REQUIRES: enter was true for that address.
  void leave(const sockaddr* address) noexcept;

  /// It is time again to log that somebody was turned away; once in a while it is.
  bool may_tell(Instant now) noexcept;

 private:
  /// Clients choose their addresses: where they are kept must not be known.
  struct Hash {
    std::size_t operator()(std::uint64_t network) const noexcept;
  };
  struct alignas(64) Shard {
    FutexMutex lock;
    std::unordered_map<std::uint64_t, std::uint32_t, Hash> counts;
  };

  Shard& shard_of(std::uint64_t network) noexcept { return shards_[Hash()(network) >> 32 & (shards_.size() - 1)]; }

  std::array<Shard, 16> shards_;
  std::atomic<Instant> told_{0};
};

}  // namespace evlua::http
