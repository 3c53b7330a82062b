// Goal: a PROXY header is understood wherever it is cut, ends where it ends, and nothing else is taken for one.
#include "net/http/proxy_protocol.h"

#include <string>

#include "tests/support/doctest.h"

namespace evlua::http {

namespace {

using Outcome = ProxyHeader::Outcome;

const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

std::string version2(unsigned command, unsigned family, const std::string& block) {
  std::string header = kSignature;
  header += static_cast<char>(command);
  header += static_cast<char>(family);
  header += static_cast<char>(block.size() >> 8);
  header += static_cast<char>(block.size() & 255);
  return header + block;
}

/// "source destination", "none", "incomplete" or "invalid".
std::string meaning(const ProxyHeader& header) {
  if (header.outcome == Outcome::incomplete) return "incomplete";
  if (header.outcome == Outcome::invalid) return "invalid";
  return header.has_addresses ? header.source.to_string() + " " + header.destination.to_string() : "none";
}

/// Cut at every byte it is incomplete, and what follows changes nothing.
std::string read(const std::string& header) {
  for (std::size_t size = 0; size < header.size(); ++size) {
    CHECK_MESSAGE(parse_proxy_header(std::string_view(header).substr(0, size)).outcome == Outcome::incomplete, size);
  }
  for (const char* more : {"", "G", "GET / HTTP/1.1\r\n\r\n", "\r\n", "PROXY UNKNOWN\r\n"}) {
    const ProxyHeader parsed = parse_proxy_header(header + more);
    CHECK(parsed.size == header.size());
    CHECK(meaning(parsed) == meaning(parse_proxy_header(header)));
  }
  return meaning(parse_proxy_header(header));
}

/// From some byte on it is invalid, and stays so.
bool refused(const std::string& bytes) {
  bool invalid = false;
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    const Outcome outcome = parse_proxy_header(std::string_view(bytes).substr(0, size)).outcome;
    CHECK(outcome != Outcome::complete);
    CHECK((!invalid || outcome == Outcome::invalid));
    invalid = outcome == Outcome::invalid;
  }
  return invalid && parse_proxy_header(bytes + "GET / HTTP/1.1\r\n\r\n").outcome == Outcome::invalid;
}

std::string path(std::string text) {
  text.resize(108, '\0');
  return text;
}

const std::string kInet("\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x34\x01\xbb", 12);

}  // namespace

TEST_CASE("version 1") {
  CHECK(read("PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n") == "192.0.2.7:4660 10.0.0.1:443");
  CHECK(read("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n") == "255.255.255.255:65535 255.255.255.255:0");
  CHECK(read("PROXY TCP6 2001:db8::7 ::1 1 2\r\n") == "[2001:db8::7]:1 [::1]:2");
  CHECK(read("PROXY UNKNOWN\r\n") == "none");
  CHECK(read("PROXY UNKNOWN ffff::1 whatever 1\r\n") == "none");
  const std::string longest = "PROXY UNKNOWN" + std::string(107 - 15, ' ') + "\r\n";
  CHECK(longest.size() == 107);
  CHECK(read(longest) == "none");
}

TEST_CASE("what version 1 does not allow") {
  for (const char* line : {
           "PROXY \r\n",
           "PROXY TCP4\r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.1 4660 443 \r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.1 4660 443 1\r\n",
           "PROXY TCP4  192.0.2.7 10.0.0.1 4660 443\r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.1 4660 65536\r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.1 0443 443\r\n",
           "PROXY TCP4 192.0.2.7 10.0.0.256 4660 443\r\n",
           "PROXY TCP4 ::1 ::1 4660 443\r\n",
           "PROXY TCP6 192.0.2.7 10.0.0.1 4660 443\r\n",
           "PROXY UDP4 192.0.2.7 10.0.0.1 4660 443\r\n",
           "PROXY UNKNOWNX\r\n",
           "PROXY UNKNOWN\n",
           "PROXY UNKNOWN\rx",
           "PROXY\r\n",
           "proxy UNKNOWN\r\n",
           " PROXY UNKNOWN\r\n",
       }) {
    CHECK_MESSAGE(refused(line), line);
  }
  CHECK(refused("PROXY UNKNOWN" + std::string(108 - 15, ' ') + "\r\n"));
  CHECK(refused("PROXY UNKNOWN" + std::string(500, ' ')));
}

TEST_CASE("version 2") {
  CHECK(read(version2(0x21, 0x11, kInet)) == "192.0.2.7:4660 10.0.0.1:443");
  CHECK(read(version2(0x21, 0x11, kInet + std::string("\x04\x00\x02zz", 5))) == "192.0.2.7:4660 10.0.0.1:443");
  const std::string v6 = std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07", 16) + std::string(15, '\0') +
                         std::string("\x01\x00\x50\x01\xbb", 5);
  CHECK(read(version2(0x21, 0x21, v6)) == "[2001:db8::7]:80 [::1]:443");
  CHECK(read(version2(0x21, 0x31, path("/run/client") + path("/run/server"))) == "unix:/run/client unix:/run/server");
  CHECK(read(version2(0x21, 0x31, path("") + path(std::string("\0name", 5)))) == "unix: unix:@name");
  CHECK(read(version2(0x21, 0x31, std::string(216, 'x'))) ==
        "unix:" + std::string(108, 'x') + " unix:" + std::string(108, 'x'));
  CHECK(read(version2(0x21, 0x11, kInet + std::string(4096 - 12, 'x'))) == "192.0.2.7:4660 10.0.0.1:443");
}

TEST_CASE("connections that speak for themselves") {
  CHECK(read(version2(0x20, 0x00, "")) == "none");
  CHECK(read(version2(0x20, 0x11, kInet)) == "none");
  CHECK(read(version2(0x20, 0xff, "whatever")) == "none");
  CHECK(read(version2(0x21, 0x00, "")) == "none");
  CHECK(read(version2(0x21, 0x12, kInet)) == "none");
}

TEST_CASE("what version 2 does not allow") {
  CHECK(refused(version2(0x11, 0x11, kInet)));
  CHECK(refused(version2(0x31, 0x11, kInet)));
  CHECK(refused(version2(0x22, 0x11, kInet)));
  CHECK(refused(version2(0x21, 0x41, kInet)));
  CHECK(refused(version2(0x21, 0x13, kInet)));
  CHECK(refused(version2(0x21, 0x11, kInet.substr(1))));
  CHECK(refused(version2(0x21, 0x21, std::string(35, 'x'))));
  CHECK(refused(version2(0x21, 0x31, std::string(215, 'x'))));
  CHECK(refused(version2(0x21, 0x11, std::string(4097, 'x'))));
  CHECK(refused(kSignature.substr(0, 11) + "\r" + version2(0x21, 0x11, kInet).substr(12)));
}

TEST_CASE("other protocols") {
  for (const char* start :
       {"GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "\n", "\r\n\r\nGET", "P "}) {
    CHECK_MESSAGE(refused(start), start);
  }
}

}  // namespace evlua::http
