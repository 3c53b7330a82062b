// res: the methods of a response.
#include <lua.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include "lua/bridge.h"
#include "lua/exchange_values.h"
#include "lua/form.h"
#include "lua/http_app.h"
#include "lua/stack.h"
#include "net/http/conditions.h"
#include "net/http/cookies.h"
#include "net/http/dates.h"
#include "net/http/files.h"
#include "net/http/syntax.h"

namespace evlua::lua {

namespace {

http::Exchange& response(lua_State* L) { return check_exchange(L, kResponseType); }

struct PushTrue {
  static const char* subject() { return "response"; }
  int operator()(lua_State* L) const {
    lua_pushboolean(L, 1);
    return 1;
  }
};

/// Raises for what the program did wrong, with the reason.
void check_set(lua_State* L, const Result<void>& result, const char* what) {
  if (result) return;
  if (result.error().is(EALREADY)) {
    luaL_error(L, "%s: the response has begun already", what);
  } else if (result.error().is(EMSGSIZE)) {
    luaL_error(L, "%s: the header Content-Length promised another length; leave it out, it is set by itself", what);
  } else {
    luaL_error(L, "%s: not allowed in a response (bad name, or a line break or NUL byte in it)", what);
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
  const bool may_wait = fiber != nullptr && fiber->may_wait(L);
  if (may_wait && exchange.is_sent_in_turns(bytes.size())) {
    return suspend_response(
        L, exchange, [&exchange, bytes] { return exchange.send_in_turns(bytes); }, PushSelf());
  }
  if (may_wait && exchange.is_sent_as_taken(bytes.size())) {
    return suspend_response(
        L, exchange, [&exchange, bytes] { return exchange.send_as_taken(bytes); }, PushSelf());
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
  return suspend_response(L, exchange, make, PushTrue());
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
  return suspend_response(
      L, exchange, [&exchange, chunk] { return exchange.write(chunk); }, PushTrue());
}

int flush(lua_State* L) {
  http::Exchange& exchange = response(L);
  return suspend_response(
      L, exchange, [&exchange] { return exchange.flush(); }, PushTrue());
}

int finish(lua_State* L) {
  const Result<void> finished = response(L).finish();
  if (!finished) return push_failure(L, finished.error(), PushTrue::subject());
  lua_pushboolean(L, 1);
  return 1;
}

}  // namespace

void define_response_type(lua_State* L) {
  const luaL_Reg methods[] = {{"status", set_status}, {"header", set_header}, {"add_header", add_header},
                              {"send", send},         {"text", text},         {"html", html},
                              {"xml", xml},           {"redirect", redirect}, {"write", write},
                              {"flush", flush},       {"finish", finish},     {"file", file},
                              {"cookie", set_cookie}, {"compress", compress}, {"json", json},
                              {"etag", set_etag},     {nullptr, nullptr}};
  define_type(L, kResponseType, methods, kExchangeMeta);
  luaL_getmetatable(L, kResponseType);
  lua_getfield(L, -1, "__index");
  extend_with(L, "response");
  lua_pop(L, 2);
}

}  // namespace evlua::lua
