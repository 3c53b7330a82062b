// evlua.dns: names and their addresses.
#include <lua.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "lua/bridge.h"
#include "lua/dns_settings.h"
#include "lua/modules.h"
#include "lua/stack.h"
#include "net/address.h"
#include "net/dns/cache.h"
#include "net/resolver.h"

namespace evlua::lua {

namespace {

using net::Address;
using net::DnsRecord;

constexpr int kServersMax = 8;
constexpr int kDnsPort = 53;
constexpr double kAttemptMax = 60;

// -- options --------------------------------------------------------------------------------------------------------

/// Pushes "192.0.2.1:53" for the server on top of the stack, and removes that; raises for what is none.
void normalise_server(lua_State* L, int index) {
  char text[80];
  text[0] = '\0';
  if (lua_type(L, -1) == LUA_TSTRING) {
    const std::string_view given = check_bytes(L, -1);
    Result<Address> address = Address::from_host(given, kDnsPort);
    if (!address) address = Address::parse(given);
    if (address && !address->is_unix() && address->port() != 0) {
      const std::string written = address->to_string();
      std::strncpy(text, written.c_str(), sizeof text - 1);
    }
  }
  if (text[0] == '\0') {
    const char* shown = luaL_tolstring(L, -1, nullptr);
    luaL_argerror(L, index,
                  lua_pushfstring(L, "option 'servers': '%s' is no address like 192.0.2.1 or [::1]:53", shown));
  }
  lua_pop(L, 1);
  lua_pushstring(L, text);
}

/// Pushes all servers of the option, separated by commas, or "".
void push_servers(lua_State* L, int index) {
  const int type = lua_getfield(L, index, "servers");
  if (type == LUA_TNIL) {
    lua_pop(L, 1);
    lua_pushliteral(L, "");
    return;
  }
  if (type == LUA_TSTRING) return normalise_server(L, index);
  const auto count = type == LUA_TTABLE ? static_cast<lua_Integer>(lua_rawlen(L, -1)) : 0;
  luaL_argcheck(L, count >= 1 && count <= kServersMax, index, "option 'servers': a list of 1 to 8 addresses expected");
  const int list = lua_gettop(L);
  lua_pushliteral(L, "");
  for (lua_Integer i = 1; i <= count; ++i) {
    if (i > 1) {
      lua_pushliteral(L, ",");
      lua_concat(L, 2);
    }
    lua_rawgeti(L, list, i);
    normalise_server(L, index);
    lua_concat(L, 2);
  }
  lua_remove(L, list);
}

/// The strings stay in the table, which stays in the options.
void read_domains(lua_State* L, int index, DnsArguments& arguments) {
  if (lua_getfield(L, index, "domains") != LUA_TNIL) {
    const auto count = lua_istable(L, -1) ? static_cast<lua_Integer>(lua_rawlen(L, -1)) : 0;
    luaL_argcheck(L, count >= 1 && count <= DnsArguments::kDomainsMax, index,
                  "option 'domains': a list of 1 to 8 names expected");
    for (lua_Integer i = 1; i <= count; ++i) {
      const bool is_string = lua_rawgeti(L, -1, i) == LUA_TSTRING;
      luaL_argcheck(L, is_string, index, "option 'domains': a list of 1 to 8 names expected");
      arguments.domains[arguments.domain_count++] = lua_tostring(L, -1);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

bool is_known(const char* key, std::initializer_list<const char*> others) {
  const std::initializer_list<const char*> ours = {"timeout", "servers", "domains", "attempt_timeout",
                                                   "tries",   "search",  "cache"};
  for (const char* name : ours) {
    if (std::strcmp(name, key) == 0) return true;
  }
  for (const char* name : others) {
    if (std::strcmp(name, key) == 0) return true;
  }
  return false;
}

}  // namespace

net::DnsSettings DnsArguments::settings() const {
  net::DnsSettings made;
  made.servers = servers;
  for (int i = 0; i < domain_count; ++i) made.domains.emplace_back(domains[i]);
  made.attempt_ms = attempt_ms;
  made.tries = tries;
  made.search = search;
  made.cache = cache;
  return made;
}

DnsArguments check_dns_options(lua_State* L, int index, std::initializer_list<const char*> others) {
  DnsArguments arguments;
  if (lua_isnoneornil(L, index)) return arguments;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING || !is_known(lua_tostring(L, -1), others)) {
      const char* shown = luaL_tolstring(L, -1, nullptr);
      luaL_argerror(L, index, lua_pushfstring(L, "unknown option '%s'", shown));
    }
  }
  arguments.deadline = option_deadline(L, index);
  arguments.search = option_flag(L, index, "search", true);
  arguments.cache = option_flag(L, index, "cache", true);
  const lua_Integer tries = option_integer(L, index, "tries", 0);
  lua_getfield(L, index, "tries");
  luaL_argcheck(L, lua_isnil(L, -1) || (tries >= 1 && tries <= 10), index, "option 'tries' must be from 1 to 10");
  lua_pop(L, 1);
  arguments.tries = static_cast<int>(tries);
  const double attempt = option_number(L, index, "attempt_timeout", 0);
  lua_getfield(L, index, "attempt_timeout");
  luaL_argcheck(L, lua_isnil(L, -1) || (attempt >= 0.001 && attempt <= kAttemptMax), index,
                "option 'attempt_timeout' must be from 0.001 to 60");
  lua_pop(L, 1);
  arguments.attempt_ms = static_cast<int>(std::ceil(attempt * 1000));
  read_domains(L, index, arguments);
  push_servers(L, index);
  arguments.servers = lua_tostring(L, -1);
  return arguments;
}

namespace {

// -- results --------------------------------------------------------------------------------------------------------

/// What a question was about; the string is an argument of the function, so it is on the stack.
struct About {
  const char* name;
  const char* subject() const { return name; }
};

struct PushAddresses : About {
  int operator()(lua_State* L, const std::vector<Address>& addresses) const {
    lua_createtable(L, static_cast<int>(addresses.size()), 0);
    lua_Integer count = 0;
    for (const Address& address : addresses) {
      char text[80];
      (void)::getnameinfo(address.get(), address.length(), text, sizeof text, nullptr, 0, NI_NUMERICHOST);
      lua_pushstring(L, text);
      lua_rawseti(L, -2, ++count);
    }
    return 1;
  }
};

struct PushNames : About {
  int operator()(lua_State* L, const std::vector<std::string>& names) const {
    lua_createtable(L, static_cast<int>(names.size()), 0);
    lua_Integer count = 0;
    for (const std::string& found : names) {
      lua_pushlstring(L, found.data(), found.size());
      lua_rawseti(L, -2, ++count);
    }
    return 1;
  }
};

/// How the fields of a type's records are called; null for those that it has not.
struct Fields {
  const char* type;
  const char* target;
  const char* text;
  const char* numbers[5];
};

constexpr Fields kFields[] = {
    {"A", "address", nullptr, {}},
    {"AAAA", "address", nullptr, {}},
    {"MX", "host", nullptr, {"priority"}},
    {"SRV", "host", nullptr, {"priority", "weight", "port"}},
    {"TXT", nullptr, "text", {}},
    {"PTR", "host", nullptr, {}},
    {"NS", "host", nullptr, {}},
    {"CNAME", "host", nullptr, {}},
    {"SOA", "host", "mailbox", {"serial", "refresh", "retry", "expire", "minimum"}},
    {"CAA", "tag", "value", {"flags"}},
};

const Fields& fields_of(std::uint16_t type) {
  for (const Fields& fields : kFields) {
    if (net::dns_type(fields.type) == type) return fields;
  }
  EVLUA_UNREACHABLE();
}

struct PushRecords : About {
  std::uint16_t type;

  int operator()(lua_State* L, const std::vector<DnsRecord>& records) const {
    const Fields& fields = fields_of(type);
    lua_createtable(L, static_cast<int>(records.size()), 0);
    lua_Integer count = 0;
    for (const DnsRecord& record : records) {
      lua_createtable(L, 0, 4);
      lua_pushinteger(L, record.ttl);
      lua_setfield(L, -2, "ttl");
      push_field(L, fields.target, record.target);
      push_field(L, fields.text, record.text);
      for (std::size_t i = 0; i < record.numbers.size() && fields.numbers[i] != nullptr; ++i) {
        lua_pushinteger(L, record.numbers[i]);
        lua_setfield(L, -2, fields.numbers[i]);
      }
      lua_rawseti(L, -2, ++count);
    }
    return 1;
  }

 private:
  static void push_field(lua_State* L, const char* name, const std::string& value) {
    if (name == nullptr) return;
    lua_pushlstring(L, value.data(), value.size());
    lua_setfield(L, -2, name);
  }
};

// -- functions ------------------------------------------------------------------------------------------------------

/// lookup(host [, options])
int lookup(lua_State* L) {
  const std::string_view host = check_bytes(L, 1);
  lua_settop(L, 2);
  const DnsArguments arguments = check_dns_options(L, 2, {"family"});
  int family = AF_UNSPEC;
  if (lua_istable(L, 2)) {
    const char* name = option_string(L, 2, "family");
    const bool is_four = name != nullptr && std::strcmp(name, "IPv4") == 0;
    const bool is_six = name != nullptr && std::strcmp(name, "IPv6") == 0;
    luaL_argcheck(L, name == nullptr || is_four || is_six, 2, "option 'family' must be \"IPv4\" or \"IPv6\"");
    if (is_four) family = AF_INET;
    if (is_six) family = AF_INET6;
  }
  PushAddresses push{{lua_tostring(L, 1)}};
  return suspend_task<std::vector<Address>>(
      L,
      [&arguments, host, family] {
        return net::resolve(std::string(host), 0, arguments.deadline, arguments.settings(), family);
      },
      push);
}

/// resolve(name, type [, options])
int resolve(lua_State* L) {
  const std::string_view name = check_bytes(L, 1);
  const std::uint16_t type = net::dns_type(check_bytes(L, 2));
  luaL_argcheck(L, type != 0, 2, R"("A", "AAAA", "MX", "SRV", "TXT", "PTR", "NS", "CNAME", "SOA" or "CAA" expected)");
  lua_settop(L, 3);
  const DnsArguments arguments = check_dns_options(L, 3);
  PushRecords push{{lua_tostring(L, 1)}, type};
  return suspend_task<std::vector<DnsRecord>>(
      L,
      [&arguments, name, type] {
        return net::query(std::string(name), type, arguments.deadline, arguments.settings());
      },
      push);
}

/// reverse(address [, options])
int reverse(lua_State* L) {
  const std::string_view address = check_bytes(L, 1);
  lua_settop(L, 2);
  const DnsArguments arguments = check_dns_options(L, 2);
  PushNames push{{lua_tostring(L, 1)}};
  return suspend_task<std::vector<std::string>>(
      L, [&arguments, address] { return net::reverse(std::string(address), arguments.deadline, arguments.settings()); },
      push);
}

int clear_cache(lua_State*) {
  net::dns_cache().clear();
  return 0;
}

}  // namespace

int open_dns(lua_State* L) {
  const luaL_Reg functions[] = {
      {"lookup", lookup}, {"resolve", resolve}, {"reverse", reverse}, {"clear_cache", clear_cache}, {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

}  // namespace evlua::lua
