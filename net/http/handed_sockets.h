// Listening sockets that somebody made for us: the program that we take over from, systemd, or we ourselves while we
// still had the privileges for it. Whoever listens takes those of its address from here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"

namespace evlua::http {

class HandedSockets {
 public:
  HandedSockets() = default;
  HandedSockets(HandedSockets&&) = default;
  HandedSockets& operator=(HandedSockets&& other) noexcept {
    sockets_.swap(other.sockets_);
    return *this;
  }
  /// Those that nobody took are closed.
  ~HandedSockets();

  /// `name` is the address as it was asked for, which tells more than what it is bound to when that was port 0.
  /// Descriptors that are no listening sockets are refused.
  bool add(int fd, std::string name);
  /// Binds and listens, `count` times on a TCP port that is to be shared. [any thread]
  Result<void> open(const net::Address& address, unsigned count);

  bool has(const net::Address& address) const;
  /// The descriptors of that address, which are the caller's from then on.
  std::vector<int> take(const net::Address& address);
  /// The addresses of those that are left, each once.
  std::vector<net::Address> addresses() const;
  std::size_t size() const noexcept { return sockets_.size(); }

 private:
  struct Handed {
    int fd;
    std::string name;
    net::Address bound;

    bool is(const std::string& address) const { return name == address || bound.to_string() == address; }
  };
  std::vector<Handed> sockets_;
};

}  // namespace evlua::http
