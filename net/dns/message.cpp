#include "net/dns/message.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <strings.h>

#include <algorithm>
#include <cstring>

#include "net/address.h"

namespace evlua::net {

namespace {

struct TypeName {
  const char* name;
  std::uint16_t type;
};

constexpr std::uint16_t kCaa = 257;
constexpr TypeName kTypes[] = {{"A", ns_t_a},     {"AAAA", ns_t_aaaa}, {"MX", ns_t_mx}, {"SRV", ns_t_srv},
                               {"TXT", ns_t_txt}, {"PTR", ns_t_ptr},   {"NS", ns_t_ns}, {"CNAME", ns_t_cname},
                               {"SOA", ns_t_soa}, {"CAA", kCaa}};

constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kNameBytesMax = 255;

/// Takes a message apart from front to back. Once something is missing all that follows is zero, and `ok` false.
class Reader {
 public:
  explicit Reader(std::string_view message, std::size_t at = 0) : message_(message), at_(at) {}

  bool ok() const noexcept { return ok_; }
  std::size_t at() const noexcept { return at_; }
  std::uint8_t byte() noexcept {
    const std::string_view one = bytes(1);
    return ok_ ? static_cast<std::uint8_t>(one[0]) : 0;
  }
  std::uint16_t number16() noexcept {
    const unsigned high = byte();
    return static_cast<std::uint16_t>(high << 8 | byte());
  }
  std::uint32_t number32() noexcept {
    const std::uint32_t high = number16();
    return high << 16 | number16();
  }
  std::string_view bytes(std::size_t count) noexcept {
    if (!ok_ || message_.size() - at_ < count) {
      ok_ = false;
      return {};
    }
    at_ += count;
    return message_.substr(at_ - count, count);
  }
  /// A name as people write it, without the last dot.
  std::string name();

 private:
  std::string_view message_;
  std::size_t at_;
  bool ok_ = true;
};

void append_label(std::string& name, std::string_view label) {
  if (!name.empty()) name += '.';
  for (const char letter : label) {
    const auto value = static_cast<unsigned char>(letter);
    if (letter == '.' || letter == '\\') {
      name += '\\';
      name += letter;
    } else if (value > ' ' && value < 127) {
      name += letter;
    } else {
      name += '\\';
      name += static_cast<char>('0' + value / 100);
      name += static_cast<char>('0' + value / 10 % 10);
      name += static_cast<char>('0' + value % 10);
    }
  }
}

std::string Reader::name() {
  std::string name;
  std::size_t size = 0;
  std::size_t before = at_;  // pointers lead towards the front only, so they come to an end
  std::optional<std::size_t> behind;
  while (ok_) {
    const std::uint8_t length = byte();
    if (!ok_ || length == 0) break;
    if ((length & 0xc0) == 0xc0) {
      const std::size_t target = static_cast<std::size_t>(length & 0x3f) << 8 | byte();
      if (!behind) behind = at_;
      ok_ = ok_ && target < before;
      before = target;
      if (ok_) at_ = target;
      continue;
    }
    size += length + 1U;
    ok_ = ok_ && (length & 0xc0) == 0 && size < kNameBytesMax;
    append_label(name, bytes(length));
  }
  if (behind) at_ = *behind;
  return name.empty() ? "." : name;
}

struct Counts {
  unsigned questions;
  unsigned answers;
  unsigned authorities;
};

Counts read_header(Reader& reader) {
  (void)reader.bytes(4);
  Counts counts{reader.number16(), reader.number16(), reader.number16()};
  (void)reader.number16();
  for (unsigned i = 0; reader.ok() && i < counts.questions; ++i) {
    (void)reader.name();
    (void)reader.number32();
  }
  return counts;
}

struct Head {
  std::uint16_t type;
  std::uint32_t ttl;
  std::size_t size;
};

Head read_head(Reader& reader) {
  (void)reader.name();
  Head head{};
  head.type = reader.number16();
  const std::uint16_t dns_class = reader.number16();
  if (dns_class != ns_c_in) head.type = 0;
  head.ttl = reader.number32();
  if (head.ttl > 0x7fffffff) head.ttl = 0;  // RFC 2181, 8
  head.size = reader.number16();
  return head;
}

std::string address_text(int family, std::string_view bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(family, bytes.data(), text, sizeof text);
  return text;
}

void read_soa(Reader& reader, DnsRecord& record) {
  record.target = reader.name();
  record.text = reader.name();
  for (std::uint32_t& number : record.numbers) number = reader.number32();
}

/// The reader stands at the record's data, which end at `end`. False: they are not what the type says.
bool read_data(Reader& reader, std::uint16_t type, std::size_t end, DnsRecord& record) {
  switch (type) {
    case ns_t_a:
    case ns_t_aaaa: {
      const std::string_view bytes = reader.bytes(type == ns_t_a ? 4 : 16);
      if (reader.ok()) record.target = address_text(type == ns_t_a ? AF_INET : AF_INET6, bytes);
      break;
    }
    case ns_t_srv:
      for (int i = 0; i < 3; ++i) record.numbers[static_cast<std::size_t>(i)] = reader.number16();
      record.target = reader.name();
      break;
    case ns_t_mx: record.numbers[0] = reader.number16(); [[fallthrough]];
    case ns_t_ptr:
    case ns_t_ns:
    case ns_t_cname: record.target = reader.name(); break;
    case ns_t_txt:
      while (reader.ok() && reader.at() < end) record.text += reader.bytes(reader.byte());
      break;
    case ns_t_soa: read_soa(reader, record); break;
    case kCaa:
      record.numbers[0] = reader.byte();
      record.target = reader.bytes(reader.byte());
      if (reader.ok() && reader.at() <= end) record.text = reader.bytes(end - reader.at());
      break;
    default: return false;
  }
  return reader.ok() && reader.at() == end;
}

}  // namespace

std::uint16_t dns_type(std::string_view name) noexcept {
  for (const TypeName& entry : kTypes) {
    const std::size_t size = std::strlen(entry.name);
    if (name.size() == size && ::strncasecmp(name.data(), entry.name, size) == 0) return entry.type;
  }
  return 0;
}

std::optional<std::vector<DnsRecord>> dns_records(std::string_view message, std::uint16_t type) {
  Reader reader(message);
  const Counts counts = read_header(reader);
  std::vector<DnsRecord> records;
  for (unsigned i = 0; reader.ok() && i < counts.answers; ++i) {
    const Head head = read_head(reader);
    const std::size_t end = reader.at() + head.size;
    if (head.type == type) {
      DnsRecord record;
      record.ttl = head.ttl;
      if (!read_data(reader, type, end, record)) return std::nullopt;
      records.push_back(std::move(record));
    } else {
      (void)reader.bytes(head.size);
    }
  }
  if (!reader.ok() || message.size() < kHeaderBytes) return std::nullopt;
  return records;
}

std::optional<std::uint32_t> dns_negative_ttl(std::string_view message) {
  Reader reader(message);
  const Counts counts = read_header(reader);
  for (unsigned i = 0; reader.ok() && i < counts.answers + counts.authorities; ++i) {
    const Head head = read_head(reader);
    const std::size_t end = reader.at() + head.size;
    if (head.type != ns_t_soa) {
      (void)reader.bytes(head.size);
      continue;
    }
    DnsRecord record;
    if (!read_data(reader, ns_t_soa, end, record)) return std::nullopt;
    return std::min(head.ttl, record.numbers[4]);
  }
  return std::nullopt;
}

std::optional<std::string> dns_reverse_name(std::string_view text) {
  const Result<Address> address = Address::from_host(text, 0);
  if (!address) return std::nullopt;
  std::string name;
  if (address->family() == AF_INET) {
    const auto* bytes =
        reinterpret_cast<const unsigned char*>(&reinterpret_cast<const sockaddr_in*>(address->get())->sin_addr);
    for (int at = 3; at >= 0; --at) name += std::to_string(bytes[at]) + ".";
    return name + "in-addr.arpa";
  }
  const unsigned char* bytes = reinterpret_cast<const sockaddr_in6*>(address->get())->sin6_addr.s6_addr;
  constexpr char kDigits[] = "0123456789abcdef";
  for (int at = 15; at >= 0; --at) {
    name += {kDigits[bytes[at] & 0xf], '.', kDigits[bytes[at] >> 4], '.'};
  }
  return name + "ip6.arpa";
}

}  // namespace evlua::net
