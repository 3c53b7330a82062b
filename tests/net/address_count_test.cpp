// Goal: connections are counted for whom they belong to, by all threads, and for nobody else.
#include "net/http/address_count.h"

#include <string>
#include <thread>
#include <vector>

#include "net/address.h"
#include "tests/support/doctest.h"

using namespace evlua;
using http::AddressCount;
using http::client_network;

namespace {

net::Address at(const std::string& host) {
  const Result<net::Address> address = net::Address::from_host(host, 80);
  REQUIRE(address);
  return *address;
}

std::uint64_t network(const std::string& host) { return client_network(at(host).get()); }

}  // namespace

TEST_CASE("IPv4 counts by address, mapped or not, IPv6 by /64") {
  CHECK(network("192.0.2.1") == network("192.0.2.1"));
  CHECK(network("192.0.2.1") == network("::ffff:192.0.2.1"));
  CHECK(network("192.0.2.1") != network("192.0.2.2"));
  CHECK(network("2001:db8:0:1::1") == network("2001:db8:0:1:ffff:ffff:ffff:ffff"));
  CHECK(network("2001:db8:0:1::1") != network("2001:db8:0:2::1"));
  CHECK(network("::1") != network("127.0.0.1"));
  const sockaddr unix_peer = {AF_UNIX, {}};
  CHECK(client_network(&unix_peer) == 0);
  CHECK(network("::1") != 0);
}

TEST_CASE("as text, as proxies say it") {
  CHECK(client_network("192.0.2.1") == network("192.0.2.1"));
  CHECK(client_network("192.0.2.1:8080") == network("192.0.2.1"));
  CHECK(client_network("[2001:db8::7]") == network("2001:db8::7"));
  CHECK(client_network("[2001:db8::7]:8080") == network("2001:db8::7"));
  CHECK(client_network("2001:db8::7") == network("2001:db8::7"));
  CHECK(client_network("_hidden") == client_network("_hidden"));
  CHECK(client_network("_hidden") != client_network("_other"));
  for (const char* text : {"", "[", "]", ":", "unknown"}) CHECK(client_network(text) == client_network(text));
}

TEST_CASE("places are counted by all threads, and given back") {
  AddressCount count;
  const net::Address one = at("192.0.2.1");
  const net::Address other = at("192.0.2.2");
  CHECK(count.enter(one.get(), 2));
  CHECK(count.enter(one.get(), 2));
  CHECK_FALSE(count.enter(one.get(), 2));
  CHECK(count.enter(other.get(), 2));
  count.leave(one.get());
  CHECK(count.enter(one.get(), 2));
  CHECK_FALSE(count.enter(one.get(), 2));

  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&count, &other] {
      for (int round = 0; round < 10'000; ++round) {
        if (count.enter(other.get(), 3)) count.leave(other.get());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(count.enter(other.get(), 2));
  CHECK_FALSE(count.enter(other.get(), 2));
}
