// How a name is looked up, where that differs from what the system's files say.
#pragma once

#include <string>
#include <vector>

namespace evlua::net {

struct DnsSettings {
  std::string servers;               ///< "192.0.2.1:53,[2001:db8::1]:53"; empty: those of /etc/resolv.conf
  std::vector<std::string> domains;  ///< to be tried behind short names; empty: those of /etc/resolv.conf
  int attempt_ms = 0;                ///< how long the first attempt waits for its answer; 0: the usual time
  int tries = 0;                     ///< of each server; 0: the usual number
  bool search = true;                ///< short names are tried with the domains
  bool cache = true;                 ///< an answer of the cache will do
};

}  // namespace evlua::net
