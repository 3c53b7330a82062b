// The objects a handler gets: req and res. Each is a userdata of a slot number and the request's id; when the request
// has ended the id no longer matches, and every use raises.
#include <lua.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "lua/bridge.h"
#include "lua/form.h"
#include "lua/http_app.h"
#include "lua/iterate.h"
#include "lua/stack.h"
#include "lua/type_label.h"
#include "net/http/accept.h"
#include "net/http/conditions.h"
#include "net/http/cookies.h"
#include "net/http/dates.h"
#include "net/http/files.h"
#include "net/http/syntax.h"

namespace evlua::lua {

namespace {

constexpr const char* kRequestType = "evlua.request";
constexpr const char* kResponseType = "evlua.response";
constexpr lua_Integer kChunk = 65536;

struct Reference {
  HttpApp* app;
  std::uint64_t id;
  std::uint32_t slot;
};

http::Exchange& check_exchange(lua_State* L, const char* type) {
  auto* reference = static_cast<Reference*>(check_object(L, 1, type));
  http::Exchange* exchange = reference->app->find(reference->slot, reference->id);
  if (exchange == nullptr) luaL_error(L, "the request has ended; copy what you need while it is handled");
  return *exchange;
}
http::Exchange& request(lua_State* L) { return check_exchange(L, kRequestType); }
http::Exchange& response(lua_State* L) { return check_exchange(L, kResponseType); }

int push_view(lua_State* L, std::string_view text) {
  lua_pushlstring(L, text.data(), text.size());
  return 1;
}

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

struct PushTrue {
  static const char* subject() { return "response"; }
  int operator()(lua_State* L) const {
    lua_pushboolean(L, 1);
    return 1;
  }
};

int push_unknown_coding(lua_State* L) {
  return push_failure(L, "request body: its Content-Encoding is not known here", "EINVAL");
}

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
  auto make = [&exchange, limit] { return exchange.read_whole_body(static_cast<std::size_t>(limit)); };
  return suspend_task<std::string>(L, make, PushWhole());
}

/// read([n]): the next piece of the body, at most n bytes.
int read(lua_State* L) {
  http::Exchange& exchange = request(L);
  const auto most = static_cast<std::size_t>(
      lua_isnoneornil(L, 2) ? kChunk : check_range(L, 2, 1, std::numeric_limits<std::int32_t>::max()));
  if (exchange.has_unknown_coding()) return push_unknown_coding(L);
  Result<std::string_view> piece = std::string_view();
  if (exchange.try_read_body(most, piece)) {
    if (!piece) return push_failure(L, piece.error(), PushPiece::subject());
    return PushPiece()(L, *piece);
  }
  return suspend_task<std::string_view>(
      L, [&exchange, most] { return exchange.read_body(most); }, PushPiece());
}

/// for chunk in req:chunks([n]) do ... end
int chunks(lua_State* L) {
  (void)request(L);
  check_chunk_size(L, kChunk);
  return push_iterator(L, read);
}

// -- res ------------------------------------------------------------------------------------------------------------

/// Raises for what the program did wrong, with the reason.
void check_set(lua_State* L, const Result<void>& result, const char* what) {
  if (result) return;
  if (result.error().is(EALREADY)) {
    luaL_error(L, "%s: the response has begun already", what);
  } else if (result.error().is(EMSGSIZE)) {
    luaL_error(L, "%s: the header Content-Length promised another length; leave it out, it is set by itself", what);
  } else {
    luaL_error(L, "%s: not allowed in a response (bad name, or a line break or zero byte in it)", what);
  }
}

/// The same; but that the client has gone is not the program's fault, and it might as well have gone a moment later.
void check_sent(lua_State* L, const Result<void>& result, const char* what) {
  if (!result && result.error().op == OpCode::protocol) check_set(L, result, what);
}

int self(lua_State* L) {
  lua_settop(L, 1);
  return 1;
}

int set_status(lua_State* L) {
  http::Exchange& exchange = response(L);
  const auto status = static_cast<int>(check_range(L, 2, 200, 599));
  const std::string_view reason = lua_isnoneornil(L, 3) ? std::string_view() : check_bytes(L, 3);
  check_set(L, exchange.set_status(status, reason), "status");
  return self(L);
}

std::string_view check_header_value(lua_State* L, int index) { return check_bytes(L, index); }

int set_header(lua_State* L) {
  http::Exchange& exchange = response(L);
  const std::string_view name = check_bytes(L, 2);
  if (lua_isnil(L, 3)) {
    check_set(L, exchange.remove_header(name), "header");
  } else {
    check_set(L, exchange.set_header(name, check_header_value(L, 3)), "header");
  }
  return self(L);
}

int add_header(lua_State* L) {
  http::Exchange& exchange = response(L);
  const std::string_view name = check_bytes(L, 2);
  check_set(L, exchange.add_header(name, check_header_value(L, 3)), "add_header");
  return self(L);
}

/// compress(flag): whether this response may be compressed
int compress(lua_State* L) {
  http::Exchange& exchange = response(L);
  luaL_checktype(L, 2, LUA_TBOOLEAN);
  exchange.allow_compression(lua_toboolean(L, 2) != 0);
  return self(L);
}

/// cookie-octet (RFC 6265, 4.1.1)
bool valid_cookie_value(std::string_view value) {
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return http::is_visible(c) && c != '"' && c != ',' && c != ';' && c != '\\'; });
}

/// av-octet: what may stand in an attribute
std::string_view check_attribute(lua_State* L, int index, const char* name) {
  std::size_t size = 0;
  const char* text = option_string(L, index, name, &size);
  const std::string_view value(text, text != nullptr ? size : 0);
  const bool good =
      std::all_of(value.begin(), value.end(), [](char c) { return (c == ' ' || http::is_visible(c)) && c != ';'; });
  luaL_argcheck(L, good, index, lua_pushfstring(L, "option '%s': a character that no cookie can hold", name));
  return value;
}

void add_text(luaL_Buffer& line, const char* name, std::string_view value) {
  if (value.empty()) return;
  luaL_addstring(&line, name);
  luaL_addlstring(&line, value.data(), value.size());
}

void add_flag(lua_State* L, luaL_Buffer& line, const char* option, bool otherwise, const char* name) {
  if (option_flag(L, 4, option, otherwise)) luaL_addstring(&line, name);
}

/// "; SameSite=Lax"; empty for a cookie without.
const char* same_site(lua_State* L) {
  const bool without = lua_getfield(L, 4, "same_site") == LUA_TBOOLEAN && lua_toboolean(L, -1) == 0;
  lua_pop(L, 1);
  if (without) return "";
  const char* mode = option_string(L, 4, "same_site");
  if (mode == nullptr || std::strcmp(mode, "lax") == 0) return "; SameSite=Lax";
  if (std::strcmp(mode, "strict") == 0) return "; SameSite=Strict";
  luaL_argcheck(L, std::strcmp(mode, "none") == 0, 4,
                "option 'same_site': \"strict\", \"lax\", \"none\" or false expected");
  return "; SameSite=None";
}

/// Raises for a cookie that every browser would throw away.
void check_cookie(lua_State* L, std::string_view name, const char* site, bool secure) {
  const bool host = name.starts_with("__Host-");
  const bool only_secure = host || name.starts_with("__Secure-");
  luaL_argcheck(L, secure || !only_secure, 2, "a name with that prefix requires the option 'secure'");
  luaL_argcheck(L, secure || std::strcmp(site, "; SameSite=None") != 0, 4,
                "option 'same_site': \"none\" requires the option 'secure'");
  luaL_argcheck(L, secure || !option_flag(L, 4, "partitioned", false), 4,
                "option 'partitioned' requires the option 'secure'");
  if (!host) return;
  const std::string_view path = check_attribute(L, 4, "path");
  luaL_argcheck(L, check_attribute(L, 4, "domain").empty() && (path.empty() || path == "/"), 2,
                "a name with the prefix __Host- excludes the option 'domain', and any 'path' but \"/\"");
}

/// "; Expires=Sun, 06 Nov 1994 08:49:37 GMT"
void add_expiry(luaL_Buffer& line, lua_Number when) {
  std::array<char, 40> text;
  std::size_t size = 0;
  {
    const std::string date = http::format_date(static_cast<std::int64_t>(when));
    size = date.copy(text.data(), text.size());
  }
  add_text(line, "; Expires=", {text.data(), size});
}

/// cookie(name, value | nil[, {path, domain, max_age, expires, secure, http_only, same_site, partitioned}]); nil ends
/// it
int set_cookie(lua_State* L) {
  http::Exchange& exchange = response(L);
  const std::string_view name = check_bytes(L, 2);
  luaL_argcheck(L, http::valid_field_name(name), 2, "the name of a cookie expected");
  const bool ends = lua_isnil(L, 3);
  const std::string_view value = ends ? std::string_view() : check_bytes(L, 3);
  luaL_argcheck(L, valid_cookie_value(value), 3,
                "a character that no cookie can hold; encode it, with encoding.base64url_encode for one");
  lua_settop(L, 4);
  if (lua_isnil(L, 4)) {
    lua_newtable(L);
    lua_replace(L, 4);
  }
  (void)check_options(L, 4,
                      {"path", "domain", "max_age", "expires", "secure", "http_only", "same_site", "partitioned"});
  const std::string_view path = check_attribute(L, 4, "path");
  const std::string_view domain = check_attribute(L, 4, "domain");
  constexpr lua_Number kNone = -1e300;
  constexpr lua_Number kYear9999 = 253402300799;
  const lua_Number age = option_number(L, 4, "max_age", kNone);
  const lua_Number expires = option_number(L, 4, "expires", kNone);
  luaL_argcheck(L, expires == kNone || (expires >= 0 && expires <= kYear9999), 4,
                "option 'expires': seconds since 1970 expected");
  const char* site = same_site(L);
  const bool secure = option_flag(L, 4, "secure", exchange.scheme() == "https");
  check_cookie(L, name, site, secure);
  luaL_Buffer line;
  luaL_buffinit(L, &line);
  luaL_addlstring(&line, name.data(), name.size());
  luaL_addchar(&line, '=');
  luaL_addlstring(&line, value.data(), value.size());
  add_text(line, "; Path=", path.empty() ? "/" : path);
  add_text(line, "; Domain=", domain);
  luaL_addstring(&line, site);
  if (secure) luaL_addstring(&line, "; Secure");
  add_flag(L, line, "http_only", true, "; HttpOnly");
  add_flag(L, line, "partitioned", false, "; Partitioned");
  if (expires != kNone && !ends) add_expiry(line, expires);
  if (ends || age != kNone) {
    lua_pushfstring(L, "; Max-Age=%I", ends ? lua_Integer{0} : static_cast<lua_Integer>(std::clamp(age, 0.0, 4e9)));
    luaL_addvalue(&line);
  }
  luaL_pushresult(&line);
  check_set(L, exchange.add_header("Set-Cookie", check_bytes(L, -1)), "cookie");
  return self(L);
}

struct PushSelf {
  static const char* subject() { return "response"; }
  int operator()(lua_State* L) const { return self(L); }
};

/// Without its quotation marks it is plain; raises for what is no entity tag.
void push_etag(lua_State* L, int index) {
  const std::string_view given = check_bytes(L, index);
  const bool quoted = given.starts_with('"') || given.starts_with("W/\"");
  std::string_view opaque = given;
  if (quoted) opaque.remove_prefix(opaque.find('"') + 1);
  const bool closed = !quoted || opaque.ends_with('"');
  if (quoted && closed) opaque.remove_suffix(1);
  const bool good = std::all_of(opaque.begin(), opaque.end(), [](char c) {
    return c != '"' && (http::is_visible(c) || static_cast<unsigned char>(c) >= 0x80);
  });
  luaL_argcheck(L, closed && good && !opaque.empty(), index,
                "an entity tag expected: no blanks, no quotation marks in it");
  lua_pushstring(L, quoted ? "" : "\"");
  lua_pushvalue(L, index);
  lua_pushstring(L, quoted ? "" : "\"");
  lua_concat(L, 3);
}

/// etag(tag[, modified]) -> whether that was the answer: 304, or 412
int set_etag(lua_State* L) {
  http::Exchange& exchange = response(L);
  lua_settop(L, 3);
  const bool dated = !lua_isnil(L, 3);
  const lua_Integer modified = dated ? check_range(L, 3, 0, 253402300799) : 0;
  push_etag(L, 2);
  const std::string_view tag = check_bytes(L, -1);
  check_set(L, exchange.set_header("ETag", tag), "etag");
  bool answered = false;
  {
    if (dated) (void)exchange.set_header("Last-Modified", http::format_date(modified));
    const http::Validators validators{tag, dated ? std::optional<std::int64_t>(modified) : std::nullopt, false,
                                      exchange.may_vary_by_coding()};
    answered = exchange.status() == 200 && http::answer_conditions(exchange, validators);
  }
  lua_pushboolean(L, answered ? 1 : 0);
  return 1;
}

int send_as(lua_State* L, const char* type) {
  http::Exchange& exchange = response(L);
  const std::string_view bytes = check_bytes(L, 2);
  if (type != nullptr && !exchange.has_header("Content-Type")) (void)exchange.set_header("Content-Type", type);
  const Fiber* fiber = Vm::of(L).running();
  if (fiber != nullptr && fiber->may_wait(L) && exchange.is_sent_in_turns(bytes.size())) {
    return suspend_task<void>(
        L, [&exchange, bytes] { return exchange.send_in_turns(bytes); }, PushSelf());
  }
  check_sent(L, exchange.send(bytes), "send");
  return self(L);
}
int send(lua_State* L) { return send_as(L, nullptr); }
int text(lua_State* L) { return send_as(L, "text/plain; charset=utf-8"); }
int html(lua_State* L) { return send_as(L, "text/html; charset=utf-8"); }
int xml(lua_State* L) { return send_as(L, "application/xml"); }
/// The text; lua/lib/response.lua encodes.
int json(lua_State* L) { return send_as(L, "application/json"); }

int redirect(lua_State* L) {
  http::Exchange& exchange = response(L);
  const std::string_view target = check_bytes(L, 2);
  const auto status = static_cast<int>(lua_isnoneornil(L, 3) ? 302 : check_range(L, 3, 300, 308));
  check_set(L, exchange.set_status(status), "redirect");
  check_set(L, exchange.set_header("Location", target), "redirect");
  check_sent(L, exchange.send(""), "redirect");
  return self(L);
}

/// Content-Disposition of a download (RFC 6266): the name in ASCII, and as it is.
std::string disposition_of(std::string_view name) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  std::string plain, encoded;
  for (const char byte : name) {
    const bool ascii = byte >= 0x20 && byte < 0x7f;
    plain += ascii && byte != '"' && byte != '\\' ? byte : '_';
    if (std::isalnum(static_cast<unsigned char>(byte)) != 0 || byte == '.' || byte == '-' || byte == '_') {
      encoded += byte;
    } else {
      const auto value = static_cast<unsigned char>(byte);
      encoded += {'%', kDigits[value >> 4], kDigits[value & 15]};
    }
  }
  return "attachment; filename=\"" + plain + "\"; filename*=UTF-8''" + encoded;
}

/// The name under which it is to be saved; empty: none.
std::string_view download_name(lua_State* L, int options, std::string_view path) {
  const int type = lua_getfield(L, options, "download");
  luaL_argcheck(L, type == LUA_TSTRING || type == LUA_TBOOLEAN || type == LUA_TNIL, options,
                "option 'download': a name, or true");
  std::size_t size = 0;
  const char* given = type == LUA_TSTRING ? lua_tolstring(L, -1, &size) : nullptr;
  const bool wanted = lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);  // the table keeps it
  if (given != nullptr) return {given, size};
  return wanted ? path.substr(path.find_last_of('/') + 1) : std::string_view();
}

/// A text for a header of the response.
void check_field(lua_State* L, const char* option, const char* text) {
  if (text != nullptr && !http::valid_field_value(text))
    luaL_error(L, "file: the option '%s' has a line break or another control character in it", option);
}

/// file(path[, {root, type, cache, download}]) -> true; or nil, message, code, and the response has not begun
int file(lua_State* L) {
  http::Exchange& exchange = response(L);
  const char* path = check_path(L, 2);
  const char* root = nullptr;
  const char* type = nullptr;
  const char* cache = nullptr;
  std::string_view download;
  if (check_options(L, 3, {"root", "type", "cache", "download"})) {
    root = option_string(L, 3, "root");
    type = option_string(L, 3, "type");
    cache = option_string(L, 3, "cache");
    check_field(L, "type", type);
    check_field(L, "cache", cache);
    download = download_name(L, 3, path);
  }
  if (exchange.headers_sent())
    check_set(L, tl::unexpected(Error{EALREADY, ErrorDomain::system, OpCode::protocol}), "file");
  BlockingPool& pool = fiber_to_wait(L).vm().scheduler().pool();
  auto make = [&exchange, path, root, type, cache, download, &pool] {
    http::FileTexts texts;
    if (type != nullptr) texts.media_type = type;
    if (cache != nullptr) texts.cache_control = cache;
    if (!download.empty()) texts.disposition = disposition_of(download);
    std::optional<std::string> folder;
    if (root != nullptr) folder = root;
    return http::serve_path(exchange, std::move(folder), path, std::move(texts), pool);
  };
  return suspend_task<void>(L, make, PushTrue());
}

/// write(chunk): streams; returns true when it is on its way, or nil, message, code.
int write(lua_State* L) {
  http::Exchange& exchange = response(L);
  const std::string_view chunk = check_bytes(L, 2);
  Result<void> written;
  if (exchange.deferred() && exchange.try_write(chunk, written)) {
    if (!written) return push_failure(L, written.error(), PushTrue::subject());
    return PushTrue()(L);
  }
  return suspend_task<void>(
      L, [&exchange, chunk] { return exchange.write(chunk); }, PushTrue());
}

int flush(lua_State* L) {
  http::Exchange& exchange = response(L);
  return suspend_task<void>(
      L, [&exchange] { return exchange.flush(); }, PushTrue());
}

int finish(lua_State* L) {
  const Result<void> finished = response(L).finish();
  if (!finished) return push_failure(L, finished.error(), PushTrue::subject());
  lua_pushboolean(L, 1);
  return 1;
}

// -- types ----------------------------------------------------------------------------------------------------------

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

int describe(lua_State* L) {
  const auto* reference = static_cast<Reference*>(lua_touserdata(L, 1));
  const bool live = reference->app->find(reference->slot, reference->id) != nullptr;
  luaL_getmetafield(L, 1, "__name");
  lua_pushfstring(L, "%s (%s)", lua_tostring(L, -1), live ? "live" : "ended");
  return 1;
}

void push_reference(lua_State* L, HttpApp& app, std::uint32_t slot, std::uint64_t id, const char* type) {
  *static_cast<Reference*>(lua_newuserdata(L, sizeof(Reference))) = {&app, id, slot};
  luaL_setmetatable(L, type);
}

}  // namespace

int at_request_end(lua_State* L) {
  (void)request(L);
  const auto* reference = static_cast<Reference*>(lua_touserdata(L, 1));
  lua_remove(L, 1);
  reference->app->task_of(reference->slot).defer(L);
  return 0;
}

void define_http_types(lua_State* L) {
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
  const luaL_Reg request_meta[] = {{"__tostring", describe}, {nullptr, nullptr}};
  define_type(L, kRequestType, nullptr, request_meta);
  luaL_getmetatable(L, kRequestType);
  lua_newtable(L);
  luaL_setfuncs(L, request_methods, 0);
  extend_with(L, "request");
  lua_newtable(L);
  luaL_setfuncs(L, properties, 0);
  lua_pushcclosure(L, index_request, 2);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);

  const luaL_Reg methods[] = {{"status", set_status}, {"header", set_header}, {"add_header", add_header},
                              {"send", send},         {"text", text},         {"html", html},
                              {"xml", xml},           {"redirect", redirect}, {"write", write},
                              {"flush", flush},       {"finish", finish},     {"file", file},
                              {"cookie", set_cookie}, {"compress", compress}, {"json", json},
                              {"etag", set_etag},     {nullptr, nullptr}};
  define_type(L, kResponseType, methods, request_meta);
  luaL_getmetatable(L, kResponseType);
  lua_getfield(L, -1, "__index");
  extend_with(L, "response");
  lua_pop(L, 2);
}

void push_request_and_response(lua_State* L, HttpApp& app, std::uint32_t slot, std::uint64_t id) {
  push_reference(L, app, slot, id, kRequestType);
  push_reference(L, app, slot, id, kResponseType);
}

}  // namespace evlua::lua
