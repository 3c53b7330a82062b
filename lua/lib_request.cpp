// req: the properties and methods of a request that is handled.
#include <lua.hpp>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "lua/bridge.h"
#include "lua/exchange_values.h"
#include "lua/form.h"
#include "lua/http_app.h"
#include "lua/iterate.h"
#include "lua/stack.h"
#include "net/http/accept.h"
#include "net/http/cookies.h"
#include "net/http/syntax.h"

namespace evlua::lua {

namespace {

constexpr lua_Integer kChunk = 65536;

http::Exchange& request(lua_State* L) { return check_exchange(L, kRequestType); }

// -- req: properties ------------------------------------------------------------------------------------------------

int get_method(lua_State* L) { return push_view(L, request(L).method()); }
int get_path(lua_State* L) { return push_view(L, request(L).path()); }
int get_target(lua_State* L) { return push_view(L, request(L).target()); }
int get_query_string(lua_State* L) { return push_view(L, request(L).query_string()); }
int get_host(lua_State* L) { return push_view(L, request(L).client_host()); }
int get_scheme(lua_State* L) { return push_view(L, request(L).scheme()); }
int get_version(lua_State* L) {
  const http::Exchange& exchange = request(L);
  lua_pushfstring(L, "%d.%d", exchange.version_major(), exchange.version_minor());
  return 1;
}

/// Calls `text_of`, which makes a std::string of an address, so that nothing is alive when Lua may raise.
template <class Text>
int push_address(lua_State* L, Text text_of) {
  char copy[160];
  std::size_t size = 0;
  {
    const std::string text = text_of();
    size = text.copy(copy, sizeof copy);
  }
  lua_pushlstring(L, copy, size);
  return 1;
}

int get_remote(lua_State* L) {
  http::Exchange& exchange = request(L);
  return push_address(L, [&] { return exchange.client(); });
}
int get_local(lua_State* L) {
  http::Exchange& exchange = request(L);
  return push_address(L, [&] { return exchange.local(); });
}
int get_id(lua_State* L) {
  lua_pushinteger(L, static_cast<lua_Integer>(request(L).id()));
  return 1;
}
int get_request_id(lua_State* L) {
  std::array<char, http::Exchange::kRequestIdRoom> room;
  return push_view(L, request(L).request_id(room));
}
void set_text(lua_State* L, const char* name, const std::string& text) {
  lua_pushlstring(L, text.data(), text.size());
  lua_setfield(L, -2, name);
}

void set_text(lua_State* L, const char* name, const char* text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

void push_peer(lua_State* L, const tls::PeerCertificate& peer) {
  lua_createtable(L, 0, 7);
  set_text(L, "subject", peer.subject);
  set_text(L, "issuer", peer.issuer);
  set_text(L, "serial", peer.serial);
  set_text(L, "fingerprint", peer.fingerprint);
  set_text(L, "not_before", peer.not_before);
  set_text(L, "not_after", peer.not_after);
  set_text(L, "pem", peer.pem);
}

void push_hex(lua_State* L, std::uint64_t number) {
  std::array<char, 17> text;
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(number));
  lua_pushlstring(L, text.data(), 16);
}

/// A table, made anew each time. Nothing in here has a destructor.
int get_trace(lua_State* L) {
  const http::TraceContext trace = request(L).trace();
  lua_createtable(L, 0, 5);
  push_hex(L, trace.id[0]);
  push_hex(L, trace.id[1]);
  lua_concat(L, 2);
  lua_setfield(L, -2, "id");
  push_hex(L, trace.span);
  lua_setfield(L, -2, "span");
  if (trace.parent != 0) {
    push_hex(L, trace.parent);
    lua_setfield(L, -2, "parent");
  }
  lua_pushboolean(L, trace.sampled() ? 1 : 0);
  lua_setfield(L, -2, "sampled");
  lua_pushliteral(L, "00-");
  lua_getfield(L, -2, "id");
  lua_pushliteral(L, "-");
  lua_getfield(L, -4, "span");
  lua_pushstring(L, trace.sampled() ? "-01" : "-00");
  lua_concat(L, 5);
  lua_setfield(L, -2, "traceparent");
  return 1;
}

/// false, or a table of what was agreed on.
int get_tls(lua_State* L) {
  const tls::Session* session = request(L).tls();
  if (session == nullptr) {
    lua_pushboolean(L, 0);
    return 1;
  }
  lua_createtable(L, 0, 6);
  set_text(L, "version", session->version);
  set_text(L, "cipher", session->cipher);
  if (session->has_alpn) set_text(L, "alpn", session->http2 ? "h2" : "http/1.1");
  if (!session->server_name.empty()) set_text(L, "server_name", session->server_name);
  lua_pushboolean(L, session->resumed ? 1 : 0);
  lua_setfield(L, -2, "resumed");
  if (session->peer != nullptr) {
    push_peer(L, *session->peer);
    lua_setfield(L, -2, "peer");
  }
  return 1;
}

// -- req: methods ---------------------------------------------------------------------------------------------------

int header(lua_State* L) {
  const auto value = request(L).header(check_bytes(L, 2));
  if (value) return push_view(L, *value);
  lua_pushnil(L);
  return 1;
}

/// Pushes a table of lower-case names; repeated fields are joined by ", ", cookies as RFC 9113 joins them.
template <class FieldAt>
int push_fields(lua_State* L, std::size_t count, FieldAt field_at) {
  lua_newtable(L);
  for (std::size_t i = 0; i < count; ++i) {
    const http::HeaderField field = field_at(i);
    luaL_Buffer name;
    char* lower = luaL_buffinitsize(L, &name, field.name.size());
    for (std::size_t k = 0; k < field.name.size(); ++k) {
      lower[k] = static_cast<char>(std::tolower(static_cast<unsigned char>(field.name[k])));
    }
    luaL_pushresultsize(&name, field.name.size());
    lua_pushvalue(L, -1);
    const bool repeated = lua_rawget(L, -3) == LUA_TSTRING;
    if (repeated) lua_pushstring(L, http::equal_ignoring_case(field.name, "cookie") ? "; " : ", ");
    lua_pushlstring(L, field.value.data(), field.value.size());
    if (repeated) {
      lua_concat(L, 3);
    } else {
      lua_remove(L, -2);
    }
    lua_rawset(L, -3);
  }
  return 1;
}

/// headers(): a table of all
int headers(lua_State* L) {
  const http::Exchange& exchange = request(L);
  return push_fields(L, exchange.header_count(), [&exchange](std::size_t i) { return exchange.header_at(i); });
}

/// nil, message, code while it is not known what came behind the body
int push_no_trailers(lua_State* L, const http::Exchange& exchange) {
  if (exchange.body_failed()) return push_failure(L, "request trailers: the body could not be read", "EPROTO");
  return push_failure(L, "request trailers: the body was not read to its end yet", "EAGAIN");
}

/// trailer(name): the first field of that name that came behind the body
int trailer(lua_State* L) {
  const http::Exchange& exchange = request(L);
  const std::string_view name = check_bytes(L, 2);
  if (!exchange.body_read()) return push_no_trailers(L, exchange);
  const http::Trailers* fields = exchange.trailers();
  const auto value = fields != nullptr ? fields->find(name) : std::nullopt;
  if (value) return push_view(L, *value);
  lua_pushnil(L);
  return 1;
}

/// trailers(): as headers()
int trailers(lua_State* L) {
  const http::Exchange& exchange = request(L);
  if (!exchange.body_read()) return push_no_trailers(L, exchange);
  const http::Trailers* fields = exchange.trailers();
  return push_fields(L, fields != nullptr ? fields->count() : 0, [fields](std::size_t i) { return fields->at(i); });
}

/// query(name): the first value of that parameter, decoded; "" for one without a value. query(): a table of all.
int query(lua_State* L) {
  const std::string_view text = request(L).query_string();
  if (lua_isnoneornil(L, 2)) {
    push_parameters(L, text);
  } else {
    push_parameter(L, text, check_bytes(L, 2));
  }
  return 1;
}

/// query_list(name): all values of that parameter
int query_list(lua_State* L) {
  push_parameter_list(L, request(L).query_string(), check_bytes(L, 2));
  return 1;
}

/// cookie(name): its value as sent.
int cookie(lua_State* L) {
  const std::string_view wanted = check_bytes(L, 2);
  http::Exchange& exchange = request(L);
  for (std::size_t i = 0; i < exchange.header_count(); ++i) {
    const http::HeaderField field = exchange.header_at(i);
    if (field.name.size() != 6 || strncasecmp(field.name.data(), "cookie", 6) != 0) continue;
    const std::optional<std::string_view> value = http::find_cookie(field.value, wanted);
    if (value) return push_view(L, *value);
  }
  lua_pushnil(L);
  return 1;
}

using Choose = std::optional<std::size_t> (*)(std::string_view, std::span<const std::string_view>);

/// (offer, ...) -> the one that the client likes best, or nil
int choose_offer(lua_State* L, const char* field, Choose choose) {
  constexpr int kOffersMax = 32;
  http::Exchange& exchange = request(L);
  const int count = lua_gettop(L) - 1;
  luaL_argcheck(L, count >= 1 && count <= kOffersMax, 2, "1 to 32 of what there is expected");
  std::array<std::string_view, kOffersMax> offers;
  for (int i = 0; i < count; ++i) offers[static_cast<std::size_t>(i)] = check_bytes(L, 2 + i);
  std::optional<std::size_t> chosen;
  {
    std::string room;
    const std::string_view accepted = exchange.header_list(field, room).value_or(std::string_view());
    chosen = choose(accepted, {offers.data(), static_cast<std::size_t>(count)});
  }
  if (chosen) return push_view(L, offers[*chosen]);
  lua_pushnil(L);
  return 1;
}
int accepts(lua_State* L) { return choose_offer(L, "accept", http::choose_media_type); }
int accepts_language(lua_State* L) { return choose_offer(L, "accept-language", http::choose_language); }

struct PushPiece {
  static const char* subject() { return "request body"; }
  int operator()(lua_State* L, std::string_view piece) const {
    if (piece.empty()) return push_failure(L, Error{static_cast<int>(Errc::end_of_file), ErrorDomain::runtime});
    return push_view(L, piece);
  }
};

struct PushWhole {
  static const char* subject() { return "request body"; }
  int operator()(lua_State* L, const std::string& body) const { return push_view(L, body); }
};

int push_unknown_coding(lua_State* L) {
  return push_failure(L, "request body: its Content-Encoding is not known here", "EINVAL");
}

int push_busy(lua_State* L) { return push_failure(L, "request body: another task is reading it", "EBUSY"); }

/// decode(flag): whether what is read of a body with a Content-Encoding is decoded
int decode(lua_State* L) {
  http::Exchange& exchange = request(L);
  luaL_checktype(L, 2, LUA_TBOOLEAN);
  if (!exchange.decode_body(lua_toboolean(L, 2) != 0)) {
    return luaL_error(L, "decode: the body is being read already; say it before");
  }
  lua_settop(L, 1);
  return 1;
}

/// body([limit]): all of it, or nil, message, "ELIMIT" when it is longer.
int body(lua_State* L) {
  http::Exchange& exchange = request(L);
  const lua_Integer limit = luaL_optinteger(L, 2, static_cast<lua_Integer>(exchange.limits().buffered_body_bytes));
  luaL_argcheck(L, limit >= 0, 2, "limit must not be negative");
  if (!exchange.has_body()) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (exchange.has_unknown_coding()) return push_unknown_coding(L);
  if (HttpApp::is_being_read(exchange)) return push_busy(L);
  auto make = [&exchange, limit] { return exchange.read_whole_body(static_cast<std::size_t>(limit)); };
  return suspend_request<std::string>(L, exchange, make, PushWhole());
}

/// read([n]): the next piece of the body, at most n bytes.
int read(lua_State* L) {
  http::Exchange& exchange = request(L);
  const auto most = static_cast<std::size_t>(
      lua_isnoneornil(L, 2) ? kChunk : check_range(L, 2, 1, std::numeric_limits<std::int32_t>::max()));
  if (exchange.has_unknown_coding()) return push_unknown_coding(L);
  if (HttpApp::is_being_read(exchange)) return push_busy(L);
  Result<std::string_view> piece = std::string_view();
  if (exchange.try_read_body(most, piece)) {
    if (!piece) return push_failure(L, piece.error(), PushPiece::subject());
    return PushPiece()(L, *piece);
  }
  return suspend_request<std::string_view>(
      L, exchange, [&exchange, most] { return exchange.read_body(most); }, PushPiece());
}

/// for chunk in req:chunks([n]) do ... end
int chunks(lua_State* L) {
  (void)request(L);
  check_chunk_size(L, kChunk);
  return push_iterator(L, read);
}

/// req.name: a method, or the value of a property.
int index_request(lua_State* L) {
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) return 1;
  const lua_CFunction getter = lua_tocfunction(L, -1);
  lua_settop(L, 1);
  return getter(L);
}

}  // namespace

int at_request_end(lua_State* L) {
  (void)request(L);
  const auto* reference = static_cast<ExchangeReference*>(lua_touserdata(L, 1));
  lua_remove(L, 1);
  reference->app->task_of(reference->slot).defer(L);
  return 0;
}

void define_request_type(lua_State* L) {
  const luaL_Reg request_methods[] = {{"header", header},
                                      {"headers", headers},
                                      {"query", query},
                                      {"cookie", cookie},
                                      {"query_list", query_list},
                                      {"body", body},
                                      {"read", read},
                                      {"chunks", chunks},
                                      {"decode", decode},
                                      {"trailer", trailer},
                                      {"trailers", trailers},
                                      {"accepts", accepts},
                                      {"accepts_language", accepts_language},
                                      {nullptr, nullptr}};
  const luaL_Reg properties[] = {{"method", get_method},
                                 {"path", get_path},
                                 {"target", get_target},
                                 {"host", get_host},
                                 {"remote", get_remote},
                                 {"query_string", get_query_string},
                                 {"local_address", get_local},
                                 {"id", get_id},
                                 {"version", get_version},
                                 {"scheme", get_scheme},
                                 {"tls", get_tls},
                                 {"trace", get_trace},
                                 {"request_id", get_request_id},
                                 {nullptr, nullptr}};
  define_type(L, kRequestType, nullptr, kExchangeMeta);
  luaL_getmetatable(L, kRequestType);
  lua_newtable(L);
  luaL_setfuncs(L, request_methods, 0);
  extend_with(L, "request");
  lua_newtable(L);
  luaL_setfuncs(L, properties, 0);
  lua_pushcclosure(L, index_request, 2);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

}  // namespace evlua::lua
