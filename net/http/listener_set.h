// The listeners of a server: for each TCP address one per worker, sharing the port by SO_REUSEPORT so that the kernel
// spreads connections and no two workers contend for one queue; a Unix-domain address has one for all workers.
#pragma once

#include <vector>

#include "core/error.h"
#include "net/address.h"
#include "net/listener.h"

namespace evlua::http {

/// Used on one worker at a time.
class ListenerSet {
 public:
  explicit ListenerSet(unsigned workers) noexcept : workers_(workers) {}

  /// Binds and listens; with port 0 all workers get the port that the kernel picked. [worker]
  Result<void> add(const net::Address& address);

  /// The addresses as bound, in the order of `add`.
  const std::vector<net::Address>& addresses() const noexcept { return addresses_; }
  /// For Server::serve: entry i has what worker i accepts from.
  std::vector<std::vector<int>> descriptors() const;

 private:
  const unsigned workers_;
  std::vector<net::Address> addresses_;
  std::vector<std::vector<net::Listener>> listeners_;  // per address: one for each worker, or one for all
};

}  // namespace evlua::http
