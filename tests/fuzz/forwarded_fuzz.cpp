// Lines of a head, the first byte of each says which field it is: what comes out has the form that is promised, and a
// client cannot change it by what it puts in front of what an honest proxy adds.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/address.h"
#include "net/http/forwarded.h"
#include "net/http/syntax.h"

namespace {

using namespace evlua::http;

const AddressList& trusted() {
  static const AddressList list = *AddressList::parse("10.0.0.0/8,fd00::/8,unix:");
  return list;
}

void check_remote(const std::string& remote) {
  if (remote.empty() || remote == "unix:" || remote == "unknown" || remote[0] == '_') return;
  const auto with_port = evlua::net::Address::parse(remote);
  const auto without = evlua::net::Address::parse(remote + ":0");
  EVLUA_CHECK((with_port && with_port->to_string() == remote) || (without && without->to_string() == remote + ":0"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::array<std::string_view, 4> kNames = {"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto",
                                                      "X-Forwarded-Host"};
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  ForwardedLines lines;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    if (!line.empty()) lines.add({kNames[static_cast<unsigned char>(line[0]) % kNames.size()], line.substr(1)});
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  const ForwardedClient client = find_client(lines, trusted());
  check_remote(client.remote);
  EVLUA_CHECK(client.scheme.empty() || client.scheme == "http" || client.scheme == "https");
  EVLUA_CHECK(client.host.empty() || valid_host(client.host));

  if (lines.forwarded.empty()) {
    lines.clients.push_back("192.0.2.1");
  } else {
    lines.forwarded.push_back("for=192.0.2.1;proto=https");
  }
  const ForwardedClient honest = find_client(lines, trusted());
  EVLUA_CHECK(honest.remote == "192.0.2.1");
  EVLUA_CHECK(lines.forwarded.empty() || (honest.scheme == "https" && honest.host.empty()));
  return 0;
}
