// What proxies say in a request's head of the client that they speak for: Forwarded (RFC 7239), or X-Forwarded-For,
// -Proto and -Host.
//
// Each proxy adds to the right of what it got, so the right end is true if the peer is trusted, and each further step
// to the left if who it names is trusted as well. What is left of the first one who is not may be made up, and is not
// even looked at.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/http/address_list.h"
#include "net/http/parser.h"

namespace evlua::http {

/// The lines that matter, in their order.
struct ForwardedLines {
  std::vector<std::string_view> forwarded;
  std::vector<std::string_view> clients;  // X-Forwarded-For
  std::vector<std::string_view> schemes;  // X-Forwarded-Proto
  std::vector<std::string_view> hosts;    // X-Forwarded-Host

  void add(const HeaderField& field);
};

/// What is known of the client; what was not said, or makes no sense, is empty.
struct ForwardedClient {
  std::string remote;  ///< "192.0.2.7:5123", "192.0.2.7", "[2001:db8::1]", "unix:", "unknown" or "_name"
  std::string scheme;  ///< "http" or "https"
  std::string host;    ///< with its port, if one was said
};

/// REQUIRES: the peer is trusted.
ForwardedClient find_client(const ForwardedLines& lines, const AddressList& trusted);

}  // namespace evlua::http
