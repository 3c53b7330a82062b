// Addresses, lists of networks, ports and hosts as people and proxies write them: what is taken means the same when it
// is written and read again.
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/address.h"
#include "net/http/address_list.h"
#include "net/http/syntax.h"

namespace {

using evlua::http::AddressList;
using evlua::net::Address;

void check_address(std::string_view text) {
  const auto address = Address::parse(text);
  if (!address) return;
  EVLUA_CHECK(address->length() <= sizeof(sockaddr_storage));
  const std::string written = address->to_string();
  const auto again = Address::parse(written);
  EVLUA_CHECK(again && again->to_string() == written && again->family() == address->family());
  EVLUA_CHECK(again->port() == address->port() && again->path() == address->path());
  if (address->is_unix()) EVLUA_CHECK(address->path().size() < sizeof(sockaddr_un::sun_path));
}

/// A single address is a network of its own, and nothing else is in it.
void check_network(std::string_view text) {
  const auto list = AddressList::parse(text);
  EVLUA_CHECK(list || !list.error().empty());
  const auto host = Address::from_host(text, 80);
  if (!host) return;
  EVLUA_CHECK(list && list->contains(host->get()));
  const auto other = Address::parse("[2001:db8::1:2:3]:1");
  EVLUA_CHECK(list->contains(other->get()) == (host->to_string() == "[2001:db8::1:2:3]:80"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_address(input);
  check_network(input);
  const auto port = evlua::net::parse_port(input);
  if (port) EVLUA_CHECK(evlua::net::parse_port(std::to_string(*port)).value() == *port);
  if (evlua::http::valid_host(input)) EVLUA_CHECK(input.find_first_of(" /?#@\\\"<>\r\n\t,") == std::string_view::npos);
  return 0;
}
