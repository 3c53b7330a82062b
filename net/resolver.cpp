#include "net/resolver.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <limits>
#include <memory>
#include <optional>

#include "core/worker.h"
#include "net/dns/cache.h"
#include "net/dns/channel.h"
#include "net/dns/gate.h"

namespace evlua::net {

namespace {

using AnswerPointer = std::shared_ptr<const DnsAnswer>;

/// Each has a socket and an epoll instance, at least.
constexpr std::size_t kLookupsMax = 256;
/// For how long it is remembered that a name has no addresses: c-ares does not tell what the servers said.
constexpr std::uint32_t kNoAddressTtl = 5;
constexpr std::size_t kNameMax = 253;

Gate& gate() noexcept {
  static Gate gate(kLookupsMax);
  return gate;
}

Error no_name() noexcept { return Error{EAI_NONAME, ErrorDomain::resolver, OpCode::resolve}; }

/// In lower case; nothing for what cannot be a host's name, or never is (RFC 6761): nobody need be asked.
std::optional<std::string> host_name(std::string_view host) {
  std::string_view labels = host;
  if (!labels.empty() && labels.back() == '.') labels.remove_suffix(1);
  if (labels.empty() || labels.size() > kNameMax || labels.front() == '-') return std::nullopt;
  std::string name;
  char before = '.';
  for (const char letter : labels) {
    const bool is_good = std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '-' || letter == '_';
    if (!is_good && (letter != '.' || before == '.')) return std::nullopt;
    name += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    before = letter;
  }
  const std::string_view last = std::string_view(name).substr(name.rfind('.') + 1);
  if (last.find_first_not_of("0123456789") == std::string_view::npos || last == "invalid") return std::nullopt;
  if (last == "localhost") return "localhost";
  if (labels.size() < host.size()) name += '.';
  return name;
}

/// What distinguishes questions whose answers may differ.
std::string cache_key(std::string_view name, int kind, const DnsSettings& settings) {
  std::string key(name);
  key += ' ';
  key += std::to_string(kind);
  key += ' ';
  key += settings.servers;
  if (settings.search) key += '+';
  for (const std::string& domain : settings.domains) {
    key += ' ';
    key += domain;
  }
  return key;
}

void remember(const std::string& key, const std::shared_ptr<DnsAnswer>& answer, std::uint32_t ttl) {
  if (ttl == 0) return;
  answer->until = deadline_after(Worker::current().backend().now(), static_cast<Duration>(ttl) * kSecond);
  dns_cache().put(key, answer);
}

// -- addresses ------------------------------------------------------------------------------------------------------

struct Found {
  bool done = false;
  int status = ARES_ENOTFOUND;
  std::uint32_t ttl = 0;  // 0: not to be kept, as what comes from /etc/hosts
  std::shared_ptr<DnsAnswer> answer = std::make_shared<DnsAnswer>();
};

void take_addresses(void* out, int status, int, ares_addrinfo* info) {
  auto& found = *static_cast<Found*>(out);
  found.done = true;
  found.status = status;
  if (info == nullptr) return;
  int ttl = std::numeric_limits<int>::max();
  for (const ares_addrinfo_node* node = info->nodes; node != nullptr; node = node->ai_next) {
    found.answer->addresses.push_back(Address::from(node->ai_addr, node->ai_addrlen));
    ttl = std::min(ttl, node->ai_ttl);
  }
  for (const ares_addrinfo_cname* alias = info->cnames; alias != nullptr; alias = alias->next) {
    ttl = std::min(ttl, alias->ttl);
  }
  found.ttl = std::min(static_cast<std::uint32_t>(std::max(ttl, 0)), DnsCache::kTtlMax);
  ares_freeaddrinfo(info);
}

/// What localhost is when no file says so (RFC 6761); c-ares knows that only where there is a file.
void add_loopback(std::vector<Address>& addresses, int family) {
  if (family != AF_INET) addresses.push_back(*Address::from_host("::1", 0));
  if (family != AF_INET6) addresses.push_back(*Address::from_host("127.0.0.1", 0));
}

Task<Result<AnswerPointer>> ask_addresses(const std::string& key, const std::string& name, int family,
                                          const DnsSettings& settings, Instant deadline) {
  Found found;
  DnsChannel channel;
  const Result<void> opened = channel.open(settings);
  if (!opened) co_return fail(opened.error());
  ares_addrinfo_hints hints{};
  hints.ai_family = family;
  hints.ai_flags = ARES_AI_ENVHOSTS;
  ares_getaddrinfo(channel.get(), name.c_str(), nullptr, &hints, take_addresses, &found);
  const Result<void> ran = co_await channel.run(found.done, deadline);
  if (!ran) co_return fail(ran.error());
  if (found.status != ARES_SUCCESS && name == "localhost") {
    add_loopback(found.answer->addresses, family);
    found.status = ARES_SUCCESS;
  }
  if (found.status != ARES_SUCCESS) found.answer->error = dns_error(found.status);
  if (found.status == ARES_SUCCESS && found.answer->addresses.empty()) found.answer->error = dns_error(ARES_ENODATA);
  if (found.status == ARES_ENOTFOUND || found.status == ARES_ENODATA) found.ttl = kNoAddressTtl;
  remember(key, found.answer, found.ttl);
  AnswerPointer answer = std::move(found.answer);
  co_return answer;
}

Address with_port(const Address& address, std::uint16_t port) {
  sockaddr_storage copy{};
  std::copy_n(reinterpret_cast<const char*>(address.get()), address.length(), reinterpret_cast<char*>(&copy));
  if (address.family() == AF_INET) reinterpret_cast<sockaddr_in&>(copy).sin_port = htons(port);
  if (address.family() == AF_INET6) reinterpret_cast<sockaddr_in6&>(copy).sin6_port = htons(port);
  return Address::from(reinterpret_cast<sockaddr*>(&copy), address.length());
}

Result<std::vector<Address>> addresses_of(const DnsAnswer& answer, std::uint16_t port) {
  if (answer.error.code != 0) return fail(answer.error);
  std::vector<Address> addresses;
  for (const Address& address : answer.addresses) addresses.push_back(with_port(address, port));
  return addresses;
}

// -- records --------------------------------------------------------------------------------------------------------

void take_message(void* out, int status, int, unsigned char* bytes, int size) {
  auto& found = *static_cast<Found*>(out);
  found.done = true;
  found.status = status;
  if (bytes != nullptr && size > 0) {
    found.answer->message.assign(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  }
}

/// For how long the answer is good, in seconds. What is not well formed, or was no answer, is not kept.
std::uint32_t lifetime(const DnsAnswer& answer, int status, std::uint16_t type) {
  if (status == ARES_ENOTFOUND || status == ARES_ENODATA) {
    const std::optional<std::uint32_t> ttl = dns_negative_ttl(answer.message);
    return ttl ? std::min(*ttl, DnsCache::kNegativeTtlMax) : 0;
  }
  const std::optional<std::vector<DnsRecord>> records = dns_records(answer.message, type);
  if (status != ARES_SUCCESS || !records || records->empty()) return 0;
  std::uint32_t ttl = DnsCache::kTtlMax;
  for (const DnsRecord& record : *records) ttl = std::min(ttl, record.ttl);
  return ttl;
}

Task<Result<AnswerPointer>> ask_records(const std::string& key, const std::string& name, std::uint16_t type,
                                        const DnsSettings& settings, Instant deadline) {
  Found found;
  DnsChannel channel;
  const Result<void> opened = channel.open(settings);
  if (!opened) co_return fail(opened.error());
  ares_query(channel.get(), name.c_str(), ns_c_in, type, take_message, &found);
  const Result<void> ran = co_await channel.run(found.done, deadline);
  if (!ran) co_return fail(ran.error());
  if (found.status != ARES_SUCCESS) found.answer->error = dns_error(found.status);
  remember(key, found.answer, lifetime(*found.answer, found.status, type));
  AnswerPointer answer = std::move(found.answer);
  co_return answer;
}

Result<std::vector<DnsRecord>> records_of(const DnsAnswer& answer, std::uint16_t type) {
  if (answer.error.code != 0) return fail(answer.error);
  std::optional<std::vector<DnsRecord>> records = dns_records(answer.message, type);
  if (!records) return fail(dns_error(ARES_EBADRESP));
  if (records->empty()) return fail(dns_error(ARES_ENODATA));
  return std::move(*records);
}

void take_host(void* out, int status, int, hostent* host) {
  auto& names = *static_cast<std::vector<std::string>*>(out);
  if (status != ARES_SUCCESS || host == nullptr) return;
  if (host->h_name != nullptr) names.emplace_back(host->h_name);
  for (char** alias = host->h_aliases; alias != nullptr && *alias != nullptr; ++alias) names.emplace_back(*alias);
}

/// What /etc/hosts says about an address. Waits for nobody.
std::vector<std::string> names_in_hosts(const Address& address) {
  std::vector<std::string> names;
  DnsChannel channel;
  if (!channel.open({}, true)) return names;
  const bool is_four = address.family() == AF_INET;
  const auto* four = &reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr;
  const auto* six = &reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr;
  const void* bytes = is_four ? static_cast<const void*>(four) : static_cast<const void*>(six);
  ares_gethostbyaddr(channel.get(), bytes, is_four ? 4 : 16, address.family(), take_host, &names);
  return names;
}

}  // namespace

Task<Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port, Instant deadline, DnsSettings settings,
                                           int family) {
  const Result<Address> numeric = Address::from_host(host, port);
  if (numeric && (family == AF_UNSPEC || family == numeric->family())) co_return std::vector<Address>{*numeric};
  const std::optional<std::string> name = host_name(host);
  if (!name || numeric) co_return fail(no_name());
  const std::string key = cache_key(*name, -family - 1, settings);
  AnswerPointer known = settings.cache ? dns_cache().find(key, Worker::current().backend().now()) : nullptr;
  if (known != nullptr) co_return addresses_of(*known, port);
  const Result<void> entered = co_await gate().enter(deadline);
  if (!entered) co_return fail(entered.error().code, OpCode::resolve);
  if (settings.cache) known = dns_cache().find(key, Worker::current().backend().now());  // asked by another meanwhile
  Result<AnswerPointer> answer = known;
  if (known == nullptr) answer = co_await ask_addresses(key, *name, family, settings, deadline);
  gate().leave();
  if (!answer) co_return fail(answer.error());
  co_return addresses_of(**answer, port);
}

Task<Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port, Instant deadline) {
  // Not a default argument: that would be a temporary in the operand of somebody's co_await.
  return resolve(std::move(host), port, deadline, DnsSettings(), AF_UNSPEC);
}

Task<Result<std::vector<DnsRecord>>> query(std::string name, std::uint16_t type, Instant deadline,
                                           DnsSettings settings) {
  // c-ares would look up what is before the zero.
  if (name.empty() || name.size() > 4 * kNameMax || name.find('\0') != std::string::npos) co_return fail(no_name());
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  const std::string key = cache_key(name, type, settings);
  AnswerPointer known = settings.cache ? dns_cache().find(key, Worker::current().backend().now()) : nullptr;
  if (known != nullptr) co_return records_of(*known, type);
  const Result<void> entered = co_await gate().enter(deadline);
  if (!entered) co_return fail(entered.error().code, OpCode::resolve);
  if (settings.cache) known = dns_cache().find(key, Worker::current().backend().now());
  Result<AnswerPointer> answer = known;
  if (known == nullptr) answer = co_await ask_records(key, name, type, settings, deadline);
  gate().leave();
  if (!answer) co_return fail(answer.error());
  co_return records_of(**answer, type);
}

Task<Result<std::vector<std::string>>> reverse(std::string text, Instant deadline, DnsSettings settings) {
  const Result<Address> address = Address::from_host(text, 0);
  const std::optional<std::string> name = dns_reverse_name(text);
  if (!address || !name) co_return fail(no_name());
  std::vector<std::string> names = names_in_hosts(*address);
  if (!names.empty()) co_return names;
  Task<Result<std::vector<DnsRecord>>> asking = query(*name, ns_t_ptr, deadline, std::move(settings));
  Result<std::vector<DnsRecord>> records = co_await std::move(asking);
  if (!records) co_return fail(records.error());
  for (DnsRecord& record : *records) names.push_back(std::move(record.target));
  co_return names;
}

}  // namespace evlua::net
