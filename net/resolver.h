// Names: what addresses they have, and whatever else DNS knows about them.
//
// c-ares does the work (net/dns/channel.h), answers are kept in a cache (net/dns/cache.h), and so many look-ups run at
// a time. Errors are those of getaddrinfo(3): EAI_NONAME (there is no such name), EAI_NODATA (it has nothing of that
// kind), EAI_AGAIN (no server would say), EAI_FAIL (what it said makes no sense).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/task.h"
#include "net/address.h"
#include "net/dns/message.h"
#include "net/dns/settings.h"

namespace evlua::net {

/// The addresses of `host`, best first (RFC 6724): from /etc/hosts, or from DNS, where short names are tried with the
/// search domains. A numeric host is answered at once. `family` AF_UNSPEC, AF_INET or AF_INET6.
Task<Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port, Instant deadline, DnsSettings settings,
                                           int family);
/// As the system does it, both families.
Task<Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port, Instant deadline = kNever);

/// The records of that type (dns_type) of exactly that name.
Task<Result<std::vector<DnsRecord>>> query(std::string name, std::uint16_t type, Instant deadline,
                                           DnsSettings settings);

/// The names of an address, from /etc/hosts or from DNS. EAI_NONAME for a text that is none.
Task<Result<std::vector<std::string>>> reverse(std::string address, Instant deadline, DnsSettings settings);

}  // namespace evlua::net
