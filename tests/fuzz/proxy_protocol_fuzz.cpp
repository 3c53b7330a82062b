// The first bytes of a connection as a PROXY header: more bytes never take an answer back, and what is found in one
// piece is found in single bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/check.h"
#include "net/http/proxy_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace evlua::http;
  using Outcome = ProxyHeader::Outcome;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const ProxyHeader whole = parse_proxy_header(input);
  const std::size_t most = std::min(size, kProxyHeaderMax + 32);
  Outcome before = Outcome::incomplete;
  for (std::size_t cut = 0; cut <= most; ++cut) {
    const ProxyHeader part = parse_proxy_header(input.substr(0, cut));
    EVLUA_CHECK(before == Outcome::incomplete || part.outcome == before);
    EVLUA_CHECK(part.outcome != Outcome::complete || (part.size == whole.size && part.size <= cut));
    before = part.outcome;
  }
  EVLUA_CHECK(before == whole.outcome);
  EVLUA_CHECK(whole.outcome != Outcome::incomplete || size < 16 + kProxyHeaderMax);
  if (!whole.has_addresses) return 0;
  EVLUA_CHECK(whole.outcome == Outcome::complete && whole.size >= 16);
  EVLUA_CHECK(whole.source.family() == whole.destination.family());
  EVLUA_CHECK(!whole.source.to_string().empty() && !whole.destination.to_string().empty());
  return 0;
}
