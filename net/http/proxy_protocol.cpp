#include "net/http/proxy_protocol.h"

#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

using Outcome = ProxyHeader::Outcome;

constexpr std::string_view kStart1 = "PROXY ";
constexpr std::size_t kLineMax = 107;  // with its CRLF
constexpr std::string_view kSignature2{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr std::size_t kFixed2 = 16;
constexpr std::size_t kPathBytes = 108;
static_assert(sizeof(sockaddr_un::sun_path) == kPathBytes);

ProxyHeader just(Outcome outcome) noexcept {
  ProxyHeader header;
  header.outcome = outcome;
  return header;
}

// -- version 1: a line of text ----------------------------------------------------------------------------------------

/// The part before the next space, which goes, too. No part: an empty one, which is never good.
std::string_view next_word(std::string_view& line) noexcept {
  const std::size_t space = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, space);
  line.remove_prefix(std::min(space + 1, line.size()));
  return word;
}

bool read_endpoint(std::string_view host, std::string_view port, int family, net::Address& out) noexcept {
  const auto number = parse_length(port);
  if (!number || *number > 65535) return false;
  const Result<net::Address> address = net::Address::from_host(host, static_cast<std::uint16_t>(*number));
  if (!address || address->family() != family) return false;
  out = *address;
  return true;
}

bool read_line(std::string_view line, ProxyHeader& header) noexcept {
  line.remove_prefix(kStart1.size());
  const std::string_view protocol = line.substr(0, line.find(' '));
  if (protocol == "UNKNOWN") return true;  // whatever else it says
  if (protocol != "TCP4" && protocol != "TCP6") return false;
  if (line.ends_with(' ')) return false;
  next_word(line);
  std::array<std::string_view, 4> words;
  for (std::string_view& word : words) word = next_word(line);
  const int family = protocol == "TCP4" ? AF_INET : AF_INET6;
  header.has_addresses = line.empty() && read_endpoint(words[0], words[2], family, header.source) &&
                         read_endpoint(words[1], words[3], family, header.destination);
  return header.has_addresses;
}

ProxyHeader parse_version1(std::string_view received) noexcept {
  const std::string_view most = received.substr(0, kLineMax);
  const std::size_t end = most.find_first_of("\r\n");
  const bool may_go_on = received.size() < kLineMax;
  if (end == std::string_view::npos) return just(may_go_on ? Outcome::incomplete : Outcome::invalid);
  if (most[end] == '\n') return just(Outcome::invalid);
  if (end + 1 == most.size()) return just(may_go_on ? Outcome::incomplete : Outcome::invalid);
  ProxyHeader header;
  const bool good = most[end + 1] == '\n' && end >= kStart1.size() && read_line(most.substr(0, end), header);
  if (!good) return just(Outcome::invalid);
  header.outcome = Outcome::complete;
  header.size = end + 2;
  return header;
}

// -- version 2: binary ------------------------------------------------------------------------------------------------

/// Addresses come in the order of the network, as sockaddrs have them.
net::Address inet_address(const char* host, const char* port) noexcept {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_addr, host, 4);
  std::memcpy(&address.sin_port, port, 2);
  return net::Address::from(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

net::Address inet6_address(const char* host, const char* port) noexcept {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  std::memcpy(&address.sin6_addr, host, 16);
  std::memcpy(&address.sin6_port, port, 2);
  return net::Address::from(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

/// A path, or an abstract name behind a zero byte; both filled up with zeros.
net::Address unix_address(const char* path) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, kPathBytes);
  std::size_t used = kPathBytes;
  while (used > 0 && path[used - 1] == '\0') --used;
  const std::size_t size = offsetof(sockaddr_un, sun_path) + used;
  return net::Address::from(reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(size));
}

bool read_addresses(unsigned family, std::string_view block, ProxyHeader& header) noexcept {
  const std::size_t size = family == 1 ? 4 : family == 2 ? 16 : kPathBytes;
  const std::size_t port_bytes = family == 3 ? 0 : 2;
  if (block.size() < 2 * (size + port_bytes)) return false;
  const char* source = block.data();
  const char* destination = source + size;
  const char* ports = destination + size;
  if (family == 1) {
    header.source = inet_address(source, ports);
    header.destination = inet_address(destination, ports + 2);
  } else if (family == 2) {
    header.source = inet6_address(source, ports);
    header.destination = inet6_address(destination, ports + 2);
  } else {
    header.source = unix_address(source);
    header.destination = unix_address(destination);
  }
  header.has_addresses = true;
  return true;
}

ProxyHeader parse_version2(std::string_view received) noexcept {
  const auto byte = [received](std::size_t at) { return static_cast<unsigned char>(received[at]); };
  if (received.size() <= 12) return {};
  const unsigned version = byte(12) >> 4;
  const unsigned command = byte(12) & 15U;  // 0: LOCAL, 1: PROXY
  if (version != 2 || command > 1) return just(Outcome::invalid);
  if (received.size() < kFixed2) return {};
  const std::size_t length = byte(14) * std::size_t{256} + byte(15);
  if (length > kProxyHeaderMax) return just(Outcome::invalid);
  if (received.size() < kFixed2 + length) return {};
  ProxyHeader header;
  const unsigned family = byte(13) >> 4;
  const unsigned transport = byte(13) & 15U;  // 0: unspecified, 1: stream, 2: datagram
  if (command == 1) {
    if (family > 3 || transport > 2) return just(Outcome::invalid);
    const bool known = family != 0 && transport == 1;
    if (known && !read_addresses(family, received.substr(kFixed2, length), header)) return just(Outcome::invalid);
  }
  header.outcome = Outcome::complete;
  header.size = kFixed2 + length;
  return header;
}

bool begins(std::string_view received, std::string_view start) noexcept {
  return received.substr(0, start.size()) == start.substr(0, received.size());
}

}  // namespace

ProxyHeader parse_proxy_header(std::string_view received) noexcept {
  if (begins(received, kSignature2)) return received.empty() ? ProxyHeader() : parse_version2(received);
  return begins(received, kStart1) ? parse_version1(received) : just(Outcome::invalid);
}

}  // namespace evlua::http
