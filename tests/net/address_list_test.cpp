// Goal: who is in a list of addresses is told exactly, and what is no list is refused with its reason.
#include "net/http/address_list.h"

#include <string>

#include "net/address.h"
#include "tests/support/doctest.h"

namespace evlua::http {

namespace {

AddressList list_of(std::string_view text) {
  auto list = AddressList::parse(text);
  REQUIRE_MESSAGE(list.has_value(), text << ": " << list.error());
  return *list;
}

bool holds(const AddressList& list, std::string_view host) {
  return list.contains(net::Address::from_host(host, 80)->get());
}

bool holds_unix(const AddressList& list) {
  sockaddr peer{};
  peer.sa_family = AF_UNIX;
  return list.contains(&peer);
}

std::string error_of(std::string_view text) {
  const auto list = AddressList::parse(text);
  return list ? "" : list.error();
}

}  // namespace

TEST_CASE("networks of IPv4 end where their length says") {
  const AddressList list = list_of("10.0.0.0/8, 192.168.4.0/22,172.16.0.128/25");
  CHECK(holds(list, "10.0.0.0"));
  CHECK(holds(list, "10.255.255.255"));
  CHECK_FALSE(holds(list, "9.255.255.255"));
  CHECK_FALSE(holds(list, "11.0.0.0"));
  CHECK(holds(list, "192.168.4.0"));
  CHECK(holds(list, "192.168.7.255"));
  CHECK_FALSE(holds(list, "192.168.8.0"));
  CHECK_FALSE(holds(list, "192.168.3.255"));
  CHECK(holds(list, "172.16.0.128"));
  CHECK_FALSE(holds(list, "172.16.0.127"));
  CHECK_FALSE(holds(list, "::1"));
  CHECK_FALSE(holds_unix(list));
}

TEST_CASE("a single address is itself only") {
  const AddressList list = list_of("127.0.0.1,2001:DB8::7");
  CHECK(holds(list, "127.0.0.1"));
  CHECK_FALSE(holds(list, "127.0.0.2"));
  CHECK_FALSE(holds(list, "127.0.0.0"));
  CHECK(holds(list, "2001:db8::7"));
  CHECK_FALSE(holds(list, "2001:db8::6"));
}

TEST_CASE("IPv6, and IPv4 within it") {
  const AddressList list = list_of("fd00::/8,2001:db8:0:8::/61,192.0.2.0/24");
  CHECK(holds(list, "fd12:3456::1"));
  CHECK_FALSE(holds(list, "fe00::1"));
  CHECK(holds(list, "2001:db8:0:f::1"));
  CHECK_FALSE(holds(list, "2001:db8:0:10::1"));
  CHECK_FALSE(holds(list, "2001:db8:0:7::1"));
  CHECK(holds(list, "::ffff:192.0.2.9"));
  CHECK_FALSE(holds(list, "::ffff:192.0.3.9"));
  CHECK_FALSE(holds(list, "::192.0.2.9"));
  const AddressList mapped = list_of("::ffff:10.0.0.0/104");
  CHECK(holds(mapped, "10.1.2.3"));
  CHECK_FALSE(holds(mapped, "11.1.2.3"));
}

TEST_CASE("everybody of one family is nobody of the other") {
  const AddressList v6 = list_of("::/0");
  CHECK(holds(v6, "2001:db8::1"));
  CHECK_FALSE(holds(v6, "192.0.2.1"));
  CHECK_FALSE(holds(v6, "::ffff:192.0.2.1"));
  const AddressList v4 = list_of("0.0.0.0/0");
  CHECK(holds(v4, "192.0.2.1"));
  CHECK(holds(v4, "::ffff:192.0.2.1"));
  CHECK_FALSE(holds(v4, "2001:db8::1"));
}

TEST_CASE("Unix-domain peers, and those of no family") {
  const AddressList list = list_of("unix:");
  CHECK_FALSE(list.empty());
  CHECK(holds_unix(list));
  CHECK_FALSE(holds(list, "127.0.0.1"));
  sockaddr nobody{};
  CHECK_FALSE(list_of("0.0.0.0/0,::/0,unix:").contains(&nobody));
  CHECK(AddressList().empty());
  CHECK_FALSE(holds(AddressList(), "127.0.0.1"));
  CHECK_FALSE(holds_unix(AddressList()));
}

TEST_CASE("what is no list says why") {
  CHECK(error_of("localhost").starts_with("'localhost' is no address"));
  CHECK(error_of("").starts_with("'' is no address"));
  CHECK(error_of("10.0.0.1,").starts_with("'' is no address"));
  CHECK(error_of("127.0.0.1:80").starts_with("'127.0.0.1:80' is no address"));
  CHECK(error_of("[::1]").starts_with("'[::1]' is no address"));
  CHECK(error_of("unix:/run/x").starts_with("'unix:/run/x' is no address"));
  CHECK(error_of("10.0.0.0/33") == "'10.0.0.0/33' has no length from 0 to 32 behind its slash");
  CHECK(error_of("10.0.0.0/") == "'10.0.0.0/' has no length from 0 to 32 behind its slash");
  CHECK(error_of("fd00::/129") == "'fd00::/129' has no length from 0 to 128 behind its slash");
  CHECK(error_of("fd00::/-1") == "'fd00::/-1' has no length from 0 to 128 behind its slash");
  CHECK(error_of("::1,10.1.0.0/8") == "'10.1.0.0/8' has bits set behind its length");
  CHECK(error_of("fd00::1/64") == "'fd00::1/64' has bits set behind its length");
}

}  // namespace evlua::http
