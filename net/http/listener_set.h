// The listeners of a server: for each TCP address one per worker, sharing the port by SO_REUSEPORT so that the kernel
// spreads connections and no two workers contend for one queue; a Unix-domain address has one for all workers.
#pragma once

#include <string>
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

  /// Listens on the sockets that were `handed` to us for that address, and makes what is missing of them; with port 0
  /// all workers get the port that the kernel picked. `tls` must outlive the set. [worker]
  Result<void> add(const net::Address& address, tls::ContextSlot* tls = nullptr, const std::vector<int>& handed = {});

  /// The addresses as bound, in the order of `add`.
  const std::vector<net::Address>& addresses() const noexcept { return addresses_; }
  struct Open {
    int fd;
    std::string name;  ///< the address as it was asked for
  };
  /// All sockets, for a program that takes over from us.
  std::vector<Open> sockets() const;
  /// The files of Unix sockets stay when the set is destroyed: somebody else listens on them.
  void leave_files() noexcept;
  /// For Server::serve: entry i has what worker i accepts from.
  std::vector<std::vector<Listening>> descriptors() const;

 private:
  struct Shared {
    std::vector<net::Listener> listeners;  // worker i has i, modulo their number; and i modulo the number of workers
    tls::ContextSlot* tls = nullptr;
    std::string name;
  };

  Result<void> add_missing(std::vector<net::Listener>& listeners, const net::Address& address, bool handed) const;

  const unsigned workers_;
  std::vector<net::Address> addresses_;
  std::vector<Shared> shared_;  // per address
};

}  // namespace evlua::http
