// What a handler gets, as Lua sees it: req and res are userdata of a slot number and the request's id; when the request
// has ended the id no longer matches, and every use raises.
#pragma once

#include <lua.hpp>

#include <string_view>

#include "lua/http_app.h"

namespace evlua::lua {

inline constexpr const char* kRequestType = "evlua.request";
inline constexpr const char* kResponseType = "evlua.response";

struct ExchangeReference {
  HttpApp* app;
  std::uint64_t id;
  std::uint32_t slot;
};

/// The first argument's. Raises when the request has ended.
http::Exchange& check_exchange(lua_State* L, const char* type);

/// Metamethods of both.
extern const luaL_Reg kExchangeMeta[];

inline int push_view(lua_State* L, std::string_view text) {
  lua_pushlstring(L, text.data(), text.size());
  return 1;
}

void define_request_type(lua_State* L);
void define_response_type(lua_State* L);

}  // namespace evlua::lua
