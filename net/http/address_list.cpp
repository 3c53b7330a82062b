#include "net/http/address_list.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "net/address.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr unsigned kMappedPrefix = 96;  // ::ffff:0:0/96
constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_mapped(const std::array<std::uint8_t, 16>& bits) noexcept {
  return std::equal(kMapped.begin(), kMapped.end(), bits.begin());
}

/// Whether the first `prefix` bits are the same.
bool equal_prefix(const std::array<std::uint8_t, 16>& left, const std::array<std::uint8_t, 16>& right,
                  unsigned prefix) noexcept {
  const unsigned whole = prefix / 8;
  if (!std::equal(left.begin(), left.begin() + whole, right.begin())) return false;
  const unsigned rest = prefix % 8;
  return rest == 0 || ((left[whole] ^ right[whole]) >> (8 - rest)) == 0;
}

tl::unexpected<std::string> wrong(std::string_view entry, const char* why) {
  return tl::unexpected<std::string>("'" + std::string(entry) + "' " + why);
}

}  // namespace

bool AddressList::bits_of(const sockaddr* address, Bits& bits) noexcept {
  if (address->sa_family == AF_INET) {
    std::copy(kMapped.begin(), kMapped.end(), bits.begin());
    std::memcpy(bits.data() + kMapped.size(), &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
    return true;
  }
  if (address->sa_family != AF_INET6) return false;
  std::memcpy(bits.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, bits.size());
  return true;
}

tl::expected<AddressList::Network, std::string> AddressList::parse_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const Result<net::Address> address = net::Address::from_host(text.substr(0, slash), 0);
  if (!address) return wrong(text, "is no address: 192.0.2.7, 10.0.0.0/8, fd00::/8 or unix: expected");
  Network network;
  bits_of(address->get(), network.bits);
  const unsigned before = address->family() == AF_INET ? kMappedPrefix : 0;
  const unsigned prefix_max = 128 - before;
  network.prefix = 128;
  if (slash != std::string_view::npos) {
    const auto prefix = parse_length(text.substr(slash + 1));
    if (!prefix || *prefix > prefix_max) {
      return wrong(text, before != 0 ? "has no length from 0 to 32 behind its slash"
                                     : "has no length from 0 to 128 behind its slash");
    }
    network.prefix = before + static_cast<unsigned>(*prefix);
  }
  for (unsigned bit = network.prefix; bit < 128; ++bit) {
    if ((network.bits[bit / 8] >> (7 - bit % 8) & 1) != 0) return wrong(text, "has bits set behind its length");
  }
  return network;
}

tl::expected<AddressList, std::string> AddressList::parse(std::string_view text) {
  AddressList list;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view entry = trim(text.substr(0, comma));
    if (entry == "unix:") {
      list.unix_ = true;
    } else {
      const auto network = parse_network(entry);
      if (!network) return tl::unexpected<std::string>(network.error());
      list.networks_.push_back(*network);
    }
    if (comma == std::string_view::npos) return list;
    text.remove_prefix(comma + 1);
  }
}

bool AddressList::contains(const sockaddr* address) const noexcept {
  if (address->sa_family == AF_UNIX) return unix_;
  Bits bits;
  if (networks_.empty() || !bits_of(address, bits)) return false;
  const unsigned prefix_min = is_mapped(bits) ? kMappedPrefix : 0;
  return std::any_of(networks_.begin(), networks_.end(), [&](const Network& network) {
    return network.prefix >= prefix_min && equal_prefix(network.bits, bits, network.prefix);
  });
}

}  // namespace evlua::http
