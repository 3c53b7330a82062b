// Goal: what is an address is told from what is none, and what is printed can be parsed again.
#include "net/address.h"

#include <sys/un.h>

#include <cerrno>
#include <string>

#include "tests/support/doctest.h"

namespace evlua::net {

namespace {

constexpr std::size_t kPathMax = sizeof(sockaddr_un::sun_path);

std::string round_trip(std::string_view text) {
  const Result<Address> address = Address::parse(text);
  if (!address) return address.error().name();
  const Result<Address> again = Address::parse(address->to_string());
  if (!again) return "does not parse again";
  if (again->length() != address->length()) return "other length";
  CHECK(again->to_string() == address->to_string());
  return address->to_string();
}

int error_of(std::string_view text) {
  const Result<Address> address = Address::parse(text);
  return address ? 0 : address.error().code;
}

}  // namespace

TEST_CASE("addresses print as they are parsed") {
  CHECK(round_trip("127.0.0.1:80") == "127.0.0.1:80");
  CHECK(round_trip("255.255.255.255:65535") == "255.255.255.255:65535");
  CHECK(round_trip("[::1]:80") == "[::1]:80");
  CHECK(round_trip("[2001:DB8:0:0:0:0:0:1]:0") == "[2001:db8::1]:0");
  CHECK(round_trip("[::ffff:10.1.2.3]:7") == "[::ffff:10.1.2.3]:7");
  CHECK(round_trip("unix:/run/x.sock") == "unix:/run/x.sock");
  CHECK(round_trip("unix:relative") == "unix:relative");
  CHECK(round_trip("unix:with:colon:80") == "unix:with:colon:80");
  CHECK(round_trip("unix:@name") == "unix:@name");
  CHECK(round_trip("unix:@") == "unix:@");
}

TEST_CASE("no host means every interface") {
  CHECK(round_trip(":8080") == "0.0.0.0:8080");
  CHECK(round_trip("*:8080") == "0.0.0.0:8080");
}

TEST_CASE("families, ports and paths are told") {
  const Result<Address> v4 = Address::parse("10.0.0.1:443");
  REQUIRE(v4);
  CHECK(v4->family() == AF_INET);
  CHECK(v4->port() == 443);
  CHECK(v4->path() == "");
  CHECK_FALSE(v4->is_unix());
  const Result<Address> v6 = Address::parse("[fe80::1]:65535");
  REQUIRE(v6);
  CHECK(v6->family() == AF_INET6);
  CHECK(v6->port() == 65535);
  const Result<Address> local = Address::parse("unix:/tmp/a b");
  REQUIRE(local);
  CHECK(local->is_unix());
  CHECK(local->path() == "/tmp/a b");
  CHECK(local->port() == 0);
  const Result<Address> abstract = Address::parse("unix:@a");
  REQUIRE(abstract);
  CHECK(abstract->is_unix());
  CHECK(abstract->path() == "");
}

TEST_CASE("garbage is refused") {
  for (const char* text :
       {"",         ":",           "80",          "127.0.0.1",  "127.0.0.1:",    "127.0.0.1:x",   "127.0.0.1:80x",
        "1.2.3:80", "1.2.3.4.5:1", "256.1.1.1:1", "01.2.3.4:1", " 127.0.0.1:80", "127.0.0.1 :80", "localhost:80",
        "::1:80",   "[::1]",       "[::1]80",     "[]:80",      "[::1:80",       "::1]:80",       "[127.0.0.1]:80",
        "[::g]:80", "[[::1]]:80",  "[1::2::3]:1", "unix:",      "Unix:/a",       "[:80",          "]:80"}) {
    CAPTURE(std::string(text));
    CHECK(error_of(text) == EINVAL);
  }
  CHECK(error_of(std::string(100'000, ':') + "80") == EINVAL);
  CHECK(error_of(std::string(100'000, '1') + ":80") == EINVAL);
}

TEST_CASE("a zero byte does not end the text") {
  using namespace std::string_view_literals;
  CHECK(error_of("127.0.0.1\0.evil:80"sv) == EINVAL);
  CHECK(error_of("[::1\0]:80"sv) == EINVAL);
  CHECK(error_of("127.0.0.1:80\0"sv) == EINVAL);
  CHECK(error_of("unix:/tmp/a\0b"sv) == EINVAL);
  CHECK(error_of("unix:@a\0b"sv) == EINVAL);
  CHECK_FALSE(Address::from_host("10.0.0.1\0"sv, 1));
}

TEST_CASE("ports go from 0 to 65535") {
  CHECK(parse_port("0").value_or(1) == 0);
  CHECK(parse_port("65535").value_or(0) == 65535);
  CHECK(parse_port("00080").value_or(0) == 80);
  for (const char* text : {"", "65536", "99999999999999999999", "-1", "+1", " 1", "1 ", "0x50", "1.0", "1e3"}) {
    CAPTURE(std::string(text));
    const Result<std::uint16_t> port = parse_port(text);
    CHECK_FALSE(port);
    if (!port) CHECK(port.error().is(EINVAL));
  }
}

TEST_CASE("a path fits with its ending zero, an abstract name without") {
  const std::string longest(kPathMax - 1, 'p');
  const Result<Address> fits = Address::unix_path(longest);
  REQUIRE(fits);
  CHECK(fits->path() == longest);
  CHECK(error_of("unix:" + longest + "p") == ENAMETOOLONG);
  CHECK(error_of("unix:" + std::string(100'000, 'p')) == ENAMETOOLONG);
  const std::string abstract = '@' + std::string(kPathMax - 1, 'n');
  CHECK(round_trip("unix:" + abstract) == "unix:" + abstract);
  CHECK(error_of("unix:" + abstract + "n") == ENAMETOOLONG);
}

TEST_CASE("addresses come from the kernel in any length") {
  const Result<Address> v6 = Address::from_host("::1", 9);
  REQUIRE(v6);
  CHECK(Address::from(v6->get(), v6->length()).to_string() == "[::1]:9");
  sockaddr_un unnamed{};
  unnamed.sun_family = AF_UNIX;
  const Address peer = Address::from(reinterpret_cast<const sockaddr*>(&unnamed), sizeof unnamed.sun_family);
  CHECK(peer.is_unix());
  CHECK(peer.path() == "");
  CHECK(peer.to_string() == "unix:");
  CHECK(Address().to_string() == "?");
  CHECK(Address().port() == 0);
}

}  // namespace evlua::net
