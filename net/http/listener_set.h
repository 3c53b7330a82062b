// The listeners of a server: for each TCP address one per worker, sharing the port by SO_REUSEPORT so that the kernel
// spreads connections and no two workers contend for one queue; a Unix-domain address has one for all workers.
#pragma once

#include <vector>

#include "core/error.h"
#include "net/address.h"
#include "net/listener.h"
#include "net/tls/context_slot.h"

namespace evlua::http {

/// Where connections come from.
struct Listening {
  int fd = -1;
  tls::ContextSlot* tls = nullptr;  ///< null: they are not encrypted
};

/// Used on one worker at a time.
class ListenerSet {
 public:
  explicit ListenerSet(unsigned workers) noexcept : workers_(workers) {}

  /// Binds and listens; with port 0 all workers get the port that the kernel picked. `tls` must outlive the set.
  /// [worker]
  Result<void> add(const net::Address& address, tls::ContextSlot* tls = nullptr);

  /// The addresses as bound, in the order of `add`.
  const std::vector<net::Address>& addresses() const noexcept { return addresses_; }
  /// For Server::serve: entry i has what worker i accepts from.
  std::vector<std::vector<Listening>> descriptors() const;

 private:
  struct Shared {
    std::vector<net::Listener> listeners;  // one for each worker, or one for all
    tls::ContextSlot* tls = nullptr;
  };

  const unsigned workers_;
  std::vector<net::Address> addresses_;
  std::vector<Shared> shared_;  // per address
};

}  // namespace evlua::http
