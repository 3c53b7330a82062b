#include "net/http/address_count.h"

#include <netinet/in.h>

#include <cstring>
#include <functional>
#include <mutex>

#include "net/address.h"
#include "net/http/trace_context.h"

namespace evlua::http {

namespace {

constexpr std::uint64_t kMarkOfIpv4 = std::uint64_t{1} << 32;  // as a /64 it would be in ::/8, which nobody has

std::uint64_t of_ipv4(const void* bytes) noexcept {
  std::uint32_t number = 0;
  std::memcpy(&number, bytes, sizeof number);
  return kMarkOfIpv4 | number;
}

}  // namespace

std::uint64_t client_network(const sockaddr* address) noexcept {
  if (address->sa_family == AF_INET) return of_ipv4(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr);
  if (address->sa_family != AF_INET6) return 0;
  const in6_addr& bits = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&bits)) return of_ipv4(&bits.s6_addr[12]);
  std::uint64_t network = 0;
  std::memcpy(&network, bits.s6_addr, sizeof network);
  return network != 0 ? network : 1;  // ::1
}

std::uint64_t client_network(std::string_view text) noexcept {
  std::string_view host = text;
  if (text.starts_with('[')) {
    host = text.substr(1, text.find(']') - 1);
  } else if (const std::size_t colon = text.find(':'); colon == text.rfind(':')) {
    host = text.substr(0, colon);
  }
  const Result<net::Address> address = net::Address::from_host(host, 0);
  return address ? client_network(address->get()) : std::hash<std::string_view>()(text);
}

std::size_t NetworkHash::operator()(std::uint64_t network) const noexcept {
  static const std::uint64_t seed = random_id();
  static const std::uint64_t factor = random_id() | 1;
  std::uint64_t mixed = (network ^ seed) * factor;
  mixed = (mixed ^ mixed >> 32) * factor;
  return mixed ^ mixed >> 29;
}

bool AddressCount::enter(std::uint64_t network, std::uint32_t most) noexcept {
  Shard& shard = shard_of(network);
  const std::lock_guard guard(shard.lock);
  std::uint32_t& count = shard.counts[network];
  if (most != 0 && count >= most) return false;
  ++count;
  return true;
}

void AddressCount::leave(std::uint64_t network) noexcept {
  Shard& shard = shard_of(network);
  const std::lock_guard guard(shard.lock);
  const auto found = shard.counts.find(network);
  if (found != shard.counts.end() && --found->second == 0) shard.counts.erase(found);
}

}  // namespace evlua::http
