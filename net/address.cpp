#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace evlua::net {

Result<std::uint16_t> parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || port > 65535) return fail(EINVAL);
  return static_cast<std::uint16_t>(port);
}

Result<Address> Address::from_host(std::string_view host, std::uint16_t port) {
  char text[64];
  if (host.size() >= sizeof text || host.find('\0') != std::string_view::npos) return fail(EINVAL);
  std::memcpy(text, host.data(), host.size());
  text[host.size()] = '\0';
  Address address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage_);
  if (::inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length_ = sizeof(sockaddr_in);
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage_);
  if (::inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length_ = sizeof(sockaddr_in6);
    return address;
  }
  return fail(EINVAL);
}

Result<Address> Address::unix_path(std::string_view path) {
  Address address;
  auto* local = reinterpret_cast<sockaddr_un*>(&address.storage_);
  const bool abstract = !path.empty() && path.front() == '@';
  if (path.empty() || path.find('\0') != std::string_view::npos) return fail(EINVAL);
  if (path.size() + (abstract ? 0 : 1) > sizeof local->sun_path) return fail(ENAMETOOLONG);
  local->sun_family = AF_UNIX;
  std::memcpy(local->sun_path, path.data(), path.size());
  if (abstract) local->sun_path[0] = '\0';
  address.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return address;
}

Result<Address> Address::parse(std::string_view text) {
  if (text.substr(0, 5) == "unix:") return unix_path(text.substr(5));
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(EINVAL);
  const Result<std::uint16_t> port = parse_port(text.substr(colon + 1));
  if (!port) return fail(port.error());
  std::string_view host = text.substr(0, colon);
  if (host.empty() || host == "*") return from_host("0.0.0.0", *port);
  const bool bracketed = host.front() == '[' && host.back() == ']' && host.size() > 2;
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (bracketed != (host.find(':') != std::string_view::npos)) return fail(EINVAL);
  return from_host(host, *port);
}

Address Address::from(const sockaddr* given, socklen_t length) noexcept {
  Address address;
  address.length_ = std::min<socklen_t>(length, sizeof address.storage_);
  std::memcpy(&address.storage_, given, address.length_);
  return address;
}

std::string_view Address::path() const noexcept {
  if (!is_unix() || length_ <= offsetof(sockaddr_un, sun_path)) return {};
  const auto* local = reinterpret_cast<const sockaddr_un*>(&storage_);
  if (local->sun_path[0] == '\0') return {};
  return {local->sun_path, ::strnlen(local->sun_path, length_ - offsetof(sockaddr_un, sun_path))};
}

std::uint16_t Address::port() const noexcept {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  return 0;
}

std::string Address::to_string() const {
  char host[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr, host, sizeof host);
    return std::string(host) + ':' + std::to_string(port());
  }
  if (family() == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr, host, sizeof host);
    return '[' + std::string(host) + "]:" + std::to_string(port());
  }
  if (!is_unix()) return "?";
  const auto* local = reinterpret_cast<const sockaddr_un*>(&storage_);
  const std::size_t size = length_ - std::min<std::size_t>(length_, offsetof(sockaddr_un, sun_path));
  if (size > 0 && local->sun_path[0] == '\0') return "unix:@" + std::string(local->sun_path + 1, size - 1);
  return "unix:" + std::string(path());
}

}  // namespace evlua::net
