// Who is at the other end of a connection, or who a PROXY header says is.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "core/worker.h"
#include "net/address.h"
#include "net/http/connection.h"
#include "net/http/station.h"

namespace evlua::http {

/// Who speaks for many is not counted, nor whom a PROXY header is still to name.
bool Connection::takes_its_place() noexcept {
  if (station_.limits().connections_per_address == 0 || peer_.sin6_family == AF_UNIX) return true;
  if (announced_by_proxy() || peer_is_trusted()) return true;
  has_place_ = station_.takes_place(reinterpret_cast<const sockaddr*>(&peer_));
  return has_place_;
}

bool Connection::peer_is_trusted() const noexcept {
  return station_.limits().trusted_proxies.contains(reinterpret_cast<const sockaddr*>(&peer_));
}

std::string Connection::remote() const {
  const auto* peer = reinterpret_cast<const sockaddr*>(&peer_);
  switch (peer->sa_family) {
    case AF_INET: return net::Address::from(peer, sizeof(sockaddr_in)).to_string();
    case AF_INET6: return net::Address::from(peer, sizeof(sockaddr_in6)).to_string();
    default: return "unix:";  // clients rarely bind a path, and its room would be spent on every connection
  }
}

void Connection::append_remote_host(Bytes& out) const noexcept {
  const auto* peer = reinterpret_cast<const sockaddr*>(&peer_);
  char* to = out.reserve(INET6_ADDRSTRLEN);
  if (peer->sa_family == AF_INET) {  // by hand: inet_ntop takes ten times as long
    char* const from = to;
    std::array<std::uint8_t, 4> parts{};
    std::memcpy(parts.data(), &reinterpret_cast<const sockaddr_in&>(peer_).sin_addr, parts.size());
    for (const std::uint8_t part : parts) {
      to = std::to_chars(to, to + 3, part).ptr;
      *to++ = '.';
    }
    out.commit(static_cast<std::size_t>(to - from) - 1);
  } else if (peer->sa_family == AF_INET6 && ::inet_ntop(AF_INET6, &peer_.sin6_addr, to, INET6_ADDRSTRLEN) != nullptr) {
    out.commit(std::strlen(to));
  } else {
    out.append("unix:");
  }
}

std::string Connection::local() const {
  if (local_ != nullptr) return local_->to_string();
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return net::Address::from(reinterpret_cast<const sockaddr*>(&storage), size).to_string();
}

bool Connection::announced_by_proxy() const noexcept {
  return station_.limits().proxy_protocol.contains(reinterpret_cast<const sockaddr*>(&peer_));
}

/// What comes behind the header is input. False: there is no valid header.
Task<bool> Connection::take_proxy_header() {
  const Limits& limits = station_.limits();
  const Duration patience =
      stopping() ? std::min(limits.header_timeout, limits.stop_idle_timeout) : limits.header_timeout;
  deadline_ = deadline_after(station_.worker().now(), patience);
  Bytes so_far;
  while (error_.code == 0) {
    RecvAwait receiving(fd_);
    waiting_ = &receiving;
    Result<Lease> received = co_await receiving;
    waiting_ = nullptr;
    if (!received || received->empty()) break;
    const std::size_t before = so_far.size();
    take_input(std::move(*received));
    if (before != 0) so_far.append(input_);
    const ProxyHeader header = parse_proxy_header(before != 0 ? so_far.view() : input_);
    if (header.outcome == ProxyHeader::Outcome::invalid) break;
    if (header.outcome == ProxyHeader::Outcome::complete) {
      came_ = receiving.done_at;
      if (!believe(header)) break;
      input_.remove_prefix(header.size - before);
      release_consumed_input();
      co_return error_.code == 0;
    }
    if (before == 0) so_far.append(input_);
    input_ = {};
    lease_.reset();
  }
  if (error_.code == 0) error_ = Error{EPROTO, ErrorDomain::system, OpCode::recv};
  co_return false;
}

/// False: it is not served.
bool Connection::believe(const ProxyHeader& header) {
  if (!header.has_addresses) return true;
  peer_ = {};
  if (header.source.is_unix()) {
    peer_.sin6_family = AF_UNIX;
  } else {
    std::memcpy(&peer_, header.source.get(), header.source.length());
  }
  local_ = std::make_unique<net::Address>(header.destination);
  return takes_its_place();
}

}  // namespace evlua::http
