// What a DNS server has answered, taken apart (RFC 1035, 2782, 3596, 8659). The bytes are anybody's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace evlua::net {

struct DnsRecord {
  /// Which of the fields mean something depends on the type.
  std::uint32_t ttl = 0;
  std::string target;  ///< A, AAAA: the address; MX, SRV, NS, CNAME, PTR: the name; SOA: the server; CAA: the tag
  std::string text;    ///< TXT: all of it; SOA: the mailbox; CAA: the value
  /// MX: preference. SRV: priority, weight, port. CAA: flags. SOA: serial, refresh, retry, expire, minimum.
  std::array<std::uint32_t, 5> numbers{};
};

/// The number of a type by its name, "MX", in capitals or not; 0 for others than DnsRecord knows.
std::uint16_t dns_type(std::string_view name) noexcept;

/// The records of `type` in the answer; nothing when the message is not well formed.
std::optional<std::vector<DnsRecord>> dns_records(std::string_view message, std::uint16_t type);

/// For how long a message without an answer may be remembered (RFC 2308); nothing when it does not say.
std::optional<std::uint32_t> dns_negative_ttl(std::string_view message);

/// The name below which the names of an address are: "1.2.0.192.in-addr.arpa". Nothing for a text that is no address.
std::optional<std::string> dns_reverse_name(std::string_view address);

}  // namespace evlua::net
