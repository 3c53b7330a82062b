// Goal: the client is whom the nearest chain of trusted proxies names, and nothing that the client itself sends in
// these fields has any effect.
#include "net/http/forwarded.h"

#include <initializer_list>
#include <string>

#include "tests/support/doctest.h"

namespace evlua::http {

namespace {

const AddressList& trusted() {
  static const AddressList list = *AddressList::parse("10.0.0.0/8,fd00::/8,unix:");
  return list;
}

/// "remote|scheme|host"
std::string client_of(std::initializer_list<HeaderField> fields) {
  ForwardedLines lines;
  for (const HeaderField& field : fields) lines.add(field);
  const ForwardedClient client = find_client(lines, trusted());
  return client.remote + "|" + client.scheme + "|" + client.host;
}

std::string forwarded(std::string_view value) { return client_of({{"Forwarded", value}}); }
std::string x_for(std::string_view value) { return client_of({{"X-Forwarded-For", value}}); }

}  // namespace

TEST_CASE("Forwarded: what an element says") {
  CHECK(forwarded("for=192.0.2.43") == "192.0.2.43||");
  CHECK(forwarded("For=\"[2001:DB8:cafe::17]:4711\"") == "[2001:db8:cafe::17]:4711||");
  CHECK(forwarded("for=\"[2001:db8::1]\"") == "[2001:db8::1]||");
  CHECK(forwarded("for=\"192.0.2.43:47011\"") == "192.0.2.43:47011||");
  CHECK(forwarded("for=192.0.2.43:47011") == "192.0.2.43:47011||");
  CHECK(forwarded("for=\"192.0.2.43:_gazonk\"") == "192.0.2.43||");
  CHECK(forwarded("for=192.0.2.60;proto=HTTPS;by=203.0.113.43;host=example.org") == "192.0.2.60|https|example.org");
  CHECK(forwarded("for=192.0.2.60; proto=http ;host=\"example.org:8080\"") == "192.0.2.60|http|example.org:8080");
  CHECK(forwarded("for=\"19\\2.0.2.43\"") == "192.0.2.43||");
  CHECK(forwarded(";for=192.0.2.43;;secret=\"a,b;c=\\\"\";") == "192.0.2.43||");
  CHECK(forwarded("proto=https") == "|https|");
  CHECK(forwarded("") == "||");
  CHECK(forwarded("proto=gopher;host=\"a b\";for=192.0.2.1") == "192.0.2.1||");
}

TEST_CASE("Forwarded: those who hide") {
  CHECK(forwarded("for=unknown") == "unknown||");
  CHECK(forwarded("for=_mystery;proto=https") == "_mystery|https|");
  CHECK(forwarded("for=192.0.2.1, for=_mystery") == "_mystery||");
  CHECK(forwarded("for=192.0.2.1, proto=https") == "|https|");
}

TEST_CASE("Forwarded: from the right to the first one who is not trusted") {
  CHECK(forwarded("for=6.6.6.6;host=evil, for=192.0.2.1;host=good, for=10.0.0.2;host=inner") == "192.0.2.1||good");
  CHECK(forwarded("for=10.0.0.7;proto=https,for=10.0.0.2;proto=http") == "10.0.0.7|https|");
  CHECK(forwarded("for=192.0.2.1;proto=https,for=\"[fd00::1]:80\";proto=http,for=\"unix:\"") == "192.0.2.1|https|");
  CHECK(client_of({{"forwarded", "for=6.6.6.6"}, {"FORWARDED", "for=192.0.2.1, for=10.0.0.2"}}) == "192.0.2.1||");
  CHECK(client_of({{"forwarded", "for=192.0.2.1"}, {"forwarded", " , for=10.0.0.2,"}}) == "192.0.2.1||");
}

TEST_CASE("Forwarded: what is broken says nothing, and what lies behind it neither") {
  for (const char* value : {"for",
                            "for=",
                            "=192.0.2.1",
                            "for=192.0.2.1;for=192.0.2.2",
                            "for=\"192.0.2.1",
                            "for=\"a\\",
                            "for=\"192.0.2.1\"x",
                            "for=192.0.2.1 proto=https",
                            "for=192.0.2.1;pro to=https",
                            "for=1.2.3",
                            "for=\"[192.0.2.1]\"",
                            "for=2001:db8::1]",
                            "for=\"[2001:db8::1\"",
                            "for=\"[2001:db8::1]80\"",
                            "for=192.0.2.1:",
                            "for=192.0.2.1:65536",
                            "for=_",
                            "for=_a!",
                            "for=example.org",
                            "for=\"\"",
                            "for=\"\";proto=https"}) {
    CHECK_MESSAGE(forwarded(value) == "||", value);
  }
  CHECK(client_of({{"forwarded", "for=\""}, {"forwarded", "for=192.0.2.1"}}) == "192.0.2.1||");
  CHECK(client_of({{"forwarded", "for=192.0.2.1"}, {"forwarded", "for=\""}}) == "||");
  CHECK(forwarded("for=nonsense;proto=http, for=10.0.0.2;proto=https") == "10.0.0.2|https|");
}

TEST_CASE("X-Forwarded-For") {
  CHECK(x_for("192.0.2.1") == "192.0.2.1||");
  CHECK(x_for("192.0.2.1:5123") == "192.0.2.1:5123||");
  CHECK(x_for("2001:DB8::1") == "[2001:db8::1]||");
  CHECK(x_for("[2001:db8::1]:80") == "[2001:db8::1]:80||");
  CHECK(x_for("unknown") == "unknown||");
  CHECK(x_for("6.6.6.6, 192.0.2.1,10.0.0.3 , 10.0.0.2") == "192.0.2.1||");
  CHECK(x_for("10.0.0.3, 10.0.0.2") == "10.0.0.3||");
  CHECK(x_for("6.6.6.6, nonsense, 10.0.0.2") == "10.0.0.2||");
  CHECK(x_for("nonsense, 192.0.2.1") == "192.0.2.1||");
  CHECK(x_for("192.0.2.1, nonsense") == "||");
  CHECK(x_for(",, 192.0.2.1 ,,") == "192.0.2.1||");
  CHECK(x_for("") == "||");
  CHECK(client_of({{"x-forwarded-for", "6.6.6.6"}, {"x-forwarded-for", "192.0.2.1"}}) == "192.0.2.1||");
}

TEST_CASE("X-Forwarded-Proto and -Host, said once or by each proxy") {
  const HeaderField chain = {"X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.0.0.2"};
  CHECK(client_of({chain, {"X-Forwarded-Proto", "https"}, {"X-Forwarded-Host", "example.org"}}) ==
        "192.0.2.1|https|example.org");
  CHECK(client_of({chain, {"X-Forwarded-Proto", "gopher, HTTPS, http"}, {"X-Forwarded-Host", "evil, good, inner"}}) ==
        "192.0.2.1|https|good");
  CHECK(client_of({{"X-Forwarded-For", "192.0.2.1"}, {"X-Forwarded-Proto", "http, https"}}) == "192.0.2.1|https|");
  CHECK(client_of({{"X-Forwarded-Proto", "https"}}) == "|https|");
  CHECK(client_of({{"X-Forwarded-Proto", "gopher"}, {"X-Forwarded-Host", "a/b"}}) == "||");
}

TEST_CASE("Forwarded alone counts where both are there") {
  CHECK(client_of({{"Forwarded", "for=192.0.2.1"}, {"X-Forwarded-For", "6.6.6.6"}, {"X-Forwarded-Proto", "https"}}) ==
        "192.0.2.1||");
  CHECK(client_of({{"Forwarded", "for=\""}, {"X-Forwarded-For", "192.0.2.1"}}) == "||");
}

}  // namespace evlua::http
