#include "net/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <limits>

namespace evlua::net {

namespace {

using Kind = SocketOption::Kind;

constexpr int kBufferMax = std::numeric_limits<int>::max() / 2;  // the kernel doubles it
constexpr int kDay = 24 * 3600;
constexpr int kSocket = SOL_SOCKET;
constexpr int kFour = IPPROTO_IP;
constexpr int kSix = IPPROTO_IPV6;
constexpr int kTcp = IPPROTO_TCP;
constexpr std::uint8_t kBoth = SocketOption::for_both;
constexpr std::uint8_t kStream = SocketOption::for_stream;
constexpr std::uint8_t kDatagram = SocketOption::for_datagram;
constexpr std::uint8_t kDatagramBeforeBind = SocketOption::for_datagram | SocketOption::before_bind;

// Name, kind, use, lowest, highest, then level and option for IPv4 and for IPv6.
constexpr SocketOption kOptions[] = {
    {"receive_buffer", Kind::number, kBoth, 1, kBufferMax, kSocket, SO_RCVBUF, kSocket, SO_RCVBUF},
    {"send_buffer", Kind::number, kBoth, 1, kBufferMax, kSocket, SO_SNDBUF, kSocket, SO_SNDBUF},
    {"ttl", Kind::number, kBoth, 1, 255, kFour, IP_TTL, kSix, IPV6_UNICAST_HOPS},
    {"traffic_class", Kind::number, kBoth, 0, 255, kFour, IP_TOS, kSix, IPV6_TCLASS},
    {"no_delay", Kind::flag, kStream, 0, 1, kTcp, TCP_NODELAY, kTcp, TCP_NODELAY},
    {"keep_alive", Kind::flag, kStream, 0, 1, kSocket, SO_KEEPALIVE, kSocket, SO_KEEPALIVE},
    {"keep_alive_idle", Kind::number, kStream, 1, 32767, kTcp, TCP_KEEPIDLE, kTcp, TCP_KEEPIDLE},
    {"keep_alive_interval", Kind::number, kStream, 1, 32767, kTcp, TCP_KEEPINTVL, kTcp, TCP_KEEPINTVL},
    {"keep_alive_count", Kind::number, kStream, 1, 127, kTcp, TCP_KEEPCNT, kTcp, TCP_KEEPCNT},
    {"user_timeout", Kind::seconds, kStream, 0, kDay, kTcp, TCP_USER_TIMEOUT, kTcp, TCP_USER_TIMEOUT},
    {"reuse_address", Kind::flag, kDatagramBeforeBind, 0, 1, kSocket, SO_REUSEADDR, kSocket, SO_REUSEADDR},
    {"reuse_port", Kind::flag, kDatagramBeforeBind, 0, 1, kSocket, SO_REUSEPORT, kSocket, SO_REUSEPORT},
    {"only_v6", Kind::flag, kDatagramBeforeBind, 0, 1, kFour, 0, kSix, IPV6_V6ONLY},
    {"broadcast", Kind::flag, kDatagram, 0, 1, kSocket, SO_BROADCAST, kSocket, SO_BROADCAST},
    {"errors", Kind::flag, kDatagram, 0, 1, kFour, IP_RECVERR, kSix, IPV6_RECVERR},
    {"multicast_ttl", Kind::number, kDatagram, 0, 255, kFour, IP_MULTICAST_TTL, kSix, IPV6_MULTICAST_HOPS},
    {"multicast_loop", Kind::flag, kDatagram, 0, 1, kFour, IP_MULTICAST_LOOP, kSix, IPV6_MULTICAST_LOOP},
    {"multicast_interface", Kind::interface, kDatagram, 0, 0, kFour, IP_MULTICAST_IF, kSix, IPV6_MULTICAST_IF},
};

struct Place {
  int level;
  int option;  // 0: sockets of that family have none
};

Place place_of(int family, const SocketOption& option) noexcept {
  const bool is_six = family == AF_INET6;
  const Place place{is_six ? option.level_v6 : option.level, is_six ? option.option_v6 : option.option};
  return family == AF_UNIX && place.level != SOL_SOCKET ? Place{0, 0} : place;
}

}  // namespace

const SocketOption* find_socket_option(std::string_view name) noexcept {
  for (const SocketOption& option : kOptions) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

Result<void> set_socket_option(int fd, int family, const SocketOption& option, int value) noexcept {
  const Place place = place_of(family, option);
  if (place.option == 0) return fail(ENOPROTOOPT);
  int result = 0;
  if (option.kind == Kind::interface && family == AF_INET) {
    ip_mreqn request{};
    request.imr_ifindex = value;
    result = ::setsockopt(fd, place.level, place.option, &request, sizeof request);
  } else {
    if (option.kind == Kind::seconds) value *= 1000;
    result = ::setsockopt(fd, place.level, place.option, &value, sizeof value);
  }
  if (result != 0) return fail(errno);
  return {};
}

Result<int> get_socket_option(int fd, int family, const SocketOption& option) noexcept {
  const Place place = place_of(family, option);
  int value = 0;
  socklen_t size = sizeof value;
  if (place.option == 0) return fail(ENOPROTOOPT);
  if (::getsockopt(fd, place.level, place.option, &value, &size) != 0) return fail(errno);
  return value;
}

}  // namespace evlua::net
