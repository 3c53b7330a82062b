// Options of sockets by name: what each is called, what it takes, and for which sockets it is.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/error.h"

namespace evlua::net {

struct SocketOption {
  enum class Kind : std::uint8_t {
    flag,
    number,     ///< from `low` to `high`
    seconds,    ///< the same, of which the kernel counts a thousand parts
    interface,  ///< the name of a network interface
  };
  enum Use : std::uint8_t {
    for_stream = 1,
    for_datagram = 2,
    for_both = 3,
    before_bind = 4,  ///< has no effect later, so it cannot be set later
  };

  const char* name;
  Kind kind;
  std::uint8_t use;
  int low;
  int high;
  int level;     ///< of setsockopt for IPv4, or for every family
  int option;    ///< 0: there is none
  int level_v6;  ///< of setsockopt for IPv6
  int option_v6;

  bool is_for(std::uint8_t wanted) const noexcept { return (use & wanted) != 0; }
  bool is_before_bind() const noexcept { return (use & before_bind) != 0; }
};

/// Null when no option is called that.
const SocketOption* find_socket_option(std::string_view name) noexcept;

/// `value` is 0 or 1 for a flag, and the index for an interface. ENOPROTOOPT when sockets of that family have none.
Result<void> set_socket_option(int fd, int family, const SocketOption& option, int value) noexcept;

/// What it is now: as for set_socket_option, but for milliseconds instead of seconds. Not for interfaces.
Result<int> get_socket_option(int fd, int family, const SocketOption& option) noexcept;

}  // namespace evlua::net
