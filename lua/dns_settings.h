// Options of look-ups in a table of Lua: {servers = {"192.0.2.1"}, tries = 2}.
#pragma once

#include <lua.hpp>

#include <initializer_list>

#include "core/time.h"
#include "net/dns/settings.h"

namespace evlua::lua {

/// Trivial, as what a Lua function holds must be. The strings live on the Lua stack or in the table.
struct DnsArguments {
  static constexpr int kDomainsMax = 8;

  const char* servers = "";
  const char* domains[kDomainsMax] = {};
  int domain_count = 0;
  int attempt_ms = 0;
  int tries = 0;
  bool search = true;
  bool cache = true;
  Instant deadline = kNever;

  net::DnsSettings settings() const;
};

/// Reads those at `index`, nil or a table; raises for what makes no sense, and for keys that are neither these nor in
/// `others`. What it pushes must stay on the stack.
DnsArguments check_dns_options(lua_State* L, int index, std::initializer_list<const char*> others = {});

}  // namespace evlua::lua
