// A text as a query or form, and as a Cookie field: the three ways to ask for a parameter agree, what was decoded
// survives being encoded and decoded again, and a cookie is a part of its field.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <lua.hpp>
#include <map>
#include <string>
#include <string_view>

#include "core/check.h"
#include "lua/form.h"
#include "net/http/cookies.h"

namespace {

using Parameters = std::map<std::string, std::string>;

lua_State* state() {
  static lua_State* const made = luaL_newstate();
  return made;
}

std::string pop_string(lua_State* L) {
  std::size_t size = 0;
  const char* text = lua_tolstring(L, -1, &size);
  EVLUA_CHECK(text != nullptr);
  std::string copy(text, size);
  lua_pop(L, 1);
  return copy;
}

Parameters all(lua_State* L, std::string_view text) {
  Parameters found;
  evlua::lua::push_parameters(L, text);
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    const std::string value = pop_string(L);
    lua_pushvalue(L, -1);
    found[pop_string(L)] = value;
  }
  lua_pop(L, 1);
  return found;
}

std::string encode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789aBcDeF";
  std::string encoded;
  for (const char byte : text) {
    const auto code = static_cast<unsigned char>(byte);
    encoded += {'%', kDigits[code / 16], kDigits[code % 16]};
  }
  return encoded;
}

void check_parameters(std::string_view text) {
  lua_State* L = state();
  const Parameters found = all(L, text);
  std::string again;
  for (const auto& [name, value] : found) {
    evlua::lua::push_parameter(L, text, name);
    EVLUA_CHECK(pop_string(L) == value);
    evlua::lua::push_parameter_list(L, text, name);
    lua_rawgeti(L, -1, 1);
    EVLUA_CHECK(pop_string(L) == value);
    lua_pop(L, 1);
    again += (again.empty() ? "" : "&") + encode(name) + "=" + encode(value);
  }
  EVLUA_CHECK(found.empty() || all(L, again) == found);
  EVLUA_CHECK(lua_gettop(L) == 0);
}

void check_cookies(std::string_view field) {
  for (std::size_t at = 0; at < field.size(); ++at) {
    const std::size_t equals = field.find('=', at);
    const std::string_view name = field.substr(at, equals - at);
    const auto value = evlua::http::find_cookie(field, name);
    if (value) {
      EVLUA_CHECK(value->data() >= field.data() && value->data() + value->size() <= field.data() + field.size());
      EVLUA_CHECK(value->find(';') == std::string_view::npos);
    }
    at = field.find(';', at);
    if (at == std::string_view::npos) break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Longer ones would only take longer: each name is looked for.
  const std::string_view input(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 300));
  check_parameters(input);
  check_cookies(input);
  return 0;
}
