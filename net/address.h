// Socket addresses as values: IPv4, IPv6, Unix-domain paths (abstract ones too).
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace evlua::net {

class Address {
 public:
  Address() = default;

  /// "127.0.0.1:80", "[::1]:80", ":80" (every interface), "unix:/run/x.sock", "unix:@name" (abstract). Host names are
  /// the resolver's business. EINVAL for anything else, ENAMETOOLONG for a path that does not fit.
  static Result<Address> parse(std::string_view text);
  /// A numeric host; EINVAL when it is none.
  static Result<Address> from_host(std::string_view host, std::uint16_t port);
  static Result<Address> unix_path(std::string_view path);
  static Address from(const sockaddr* address, socklen_t length) noexcept;

  /// "127.0.0.1:80", "[::1]:80", "unix:/run/x.sock"
  std::string to_string() const;

  int family() const noexcept { return storage_.ss_family; }
  bool is_unix() const noexcept { return family() == AF_UNIX; }
  /// A path in the file system, or empty.
  std::string_view path() const noexcept;
  std::uint16_t port() const noexcept;
  /// Port 0: the kernel chooses one. Two such addresses are two ports.
  bool any_port() const noexcept { return !is_unix() && port() == 0; }

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage_); }
  socklen_t length() const noexcept { return length_; }

 private:
  sockaddr_storage storage_{};
  socklen_t length_ = 0;
};

/// A decimal port, 0 to 65535; EINVAL otherwise.
Result<std::uint16_t> parse_port(std::string_view text);

}  // namespace evlua::net
