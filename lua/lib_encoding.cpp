// evlua.encoding: base64, base64url, hex.
#include <lua.hpp>

#include "core/encoding.h"
#include "lua/bridge.h"
#include "lua/modules.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

int encode_base64(lua_State* L, Base64 alphabet, bool padding_by_default) {
  const std::string_view bytes = check_bytes(L, 1);
  const bool has_options = check_options(L, 2, {"padding"});
  const bool padding = has_options ? option_flag(L, 2, "padding", padding_by_default) : padding_by_default;
  const std::size_t size = base64_size(bytes.size(), padding);
  luaL_Buffer buffer;
  char* out = luaL_buffinitsize(L, &buffer, size);
  base64_encode(bytes, alphabet, padding, out);
  luaL_pushresultsize(&buffer, size);
  return 1;
}

int push_bad_text(lua_State* L, const char* what, std::size_t position) {
  lua_pushnil(L);
  lua_pushfstring(L, "not %s at position %I", what, static_cast<lua_Integer>(position + 1));
  lua_pushliteral(L, "EINVAL");
  return 3;
}

int decode_base64(lua_State* L, Base64 alphabet) {
  const std::string_view text = check_bytes(L, 1);
  luaL_Buffer buffer;
  char* out = luaL_buffinitsize(L, &buffer, text.size() / 4 * 3 + 3);
  const Decoded decoded = base64_decode(text, alphabet, out);
  luaL_pushresultsize(&buffer, decoded.size);
  if (!decoded.ok) return push_bad_text(L, alphabet == Base64::url ? "base64url" : "base64", decoded.bad_at);
  return 1;
}

int base64_encode(lua_State* L) { return encode_base64(L, Base64::standard, true); }
int base64_decode(lua_State* L) { return decode_base64(L, Base64::standard); }
int base64url_encode(lua_State* L) { return encode_base64(L, Base64::url, false); }
int base64url_decode(lua_State* L) { return decode_base64(L, Base64::url); }

int hex_encode_bytes(lua_State* L) {
  const std::string_view bytes = check_bytes(L, 1);
  luaL_Buffer buffer;
  char* out = luaL_buffinitsize(L, &buffer, bytes.size() * 2);
  hex_encode(bytes, out);
  luaL_pushresultsize(&buffer, bytes.size() * 2);
  return 1;
}

int hex_decode_text(lua_State* L) {
  const std::string_view text = check_bytes(L, 1);
  luaL_Buffer buffer;
  char* out = luaL_buffinitsize(L, &buffer, text.size() / 2 + 1);
  const Decoded decoded = hex_decode(text, out);
  luaL_pushresultsize(&buffer, decoded.size);
  if (!decoded.ok) return push_bad_text(L, "hexadecimal", decoded.bad_at);
  return 1;
}

}  // namespace

int open_encoding(lua_State* L) {
  const luaL_Reg functions[] = {{"base64_encode", base64_encode},
                                {"base64_decode", base64_decode},
                                {"base64url_encode", base64url_encode},
                                {"base64url_decode", base64url_decode},
                                {"hex_encode", hex_encode_bytes},
                                {"hex_decode", hex_decode_text},
                                {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

}  // namespace evlua::lua
