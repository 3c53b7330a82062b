// Answers of DNS servers: whatever comes, the parser stays within it, and what it takes out is of bounded size.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/dns/message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace evlua::net;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const char* name : {"A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "CAA"}) {
    const auto records = dns_records(input, dns_type(name));
    if (!records) continue;
    EVLUA_CHECK(records->size() * 11 <= size);  // none is shorter
    for (const DnsRecord& record : *records) {
      EVLUA_CHECK(record.target.size() <= 4 * 255 && record.ttl <= 0x7fffffff);
      EVLUA_CHECK(record.text.size() <= std::max<std::size_t>(size, 4 * 255));
    }
  }
  (void)dns_negative_ttl(input);
  const auto reverse = dns_reverse_name(input);
  EVLUA_CHECK(!reverse || (reverse->size() <= 72 && reverse->find(".arpa") != std::string::npos));
  return 0;
}
