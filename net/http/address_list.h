// A set of addresses and networks: who is trusted to speak for others.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace evlua::http {

class AddressList {
 public:
  /// Entries between commas: "10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1", and "unix:" for every Unix-domain peer.
  /// "::ffff:10.0.0.0/104" means 10.0.0.0/8. The error is a sentence that names the entry.
  static tl::expected<AddressList, std::string> parse(std::string_view text);

  bool empty() const noexcept { return networks_.empty() && !unix_; }
  /// IPv4 and the IPv6 address that it is mapped to are the same; a network of IPv6 holds no IPv4 addresses. False for
  /// an address of another family. `address` must have the size of its family; of AF_UNIX only the family counts.
  bool contains(const sockaddr* address) const noexcept;

 private:
  using Bits = std::array<std::uint8_t, 16>;
  /// IPv4 as it is mapped into IPv6.
  struct Network {
    Bits bits{};
    unsigned prefix = 0;
  };

  static bool bits_of(const sockaddr* address, Bits& bits) noexcept;
  static tl::expected<Network, std::string> parse_network(std::string_view text);

  std::vector<Network> networks_;
  bool unix_ = false;
};

}  // namespace evlua::http
