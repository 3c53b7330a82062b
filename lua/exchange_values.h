// What a handler gets, as Lua sees it: req and res are userdata of a slot number and the request's id; when the request
// has ended the id no longer matches, and every use raises.
#pragma once

#include <lua.hpp>

#include <string_view>

#include "lua/bridge.h"
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

/// As TaskWait, of a task that uses the exchange.
template <class T, class Push>
struct ExchangeWait : TaskWait<T, Push>, HttpApp::Use {
  template <class Make>
  ExchangeWait(http::Exchange& exchange, Of part, Make make, Push push_results)
      : TaskWait<T, Push>(make(), push_results), Use(exchange, *this, part) {
    this->run = [](Runnable& ended) noexcept {
      auto& wait = static_cast<ExchangeWait&>(ended);
      wait.end(*wait.fiber);
    };
  }
};

/// As suspend_task: for more of the body of the request.
template <class T, class Make, class Push>
int suspend_request(lua_State* L, http::Exchange& exchange, Make make, Push push) {
  return suspend<ExchangeWait<T, Push>>(L, exchange, HttpApp::Use::Of::request, make, push);
}

/// The same: for the response to be on its way.
template <class Make, class Push>
int suspend_response(lua_State* L, http::Exchange& exchange, Make make, Push push) {
  return suspend<ExchangeWait<void, Push>>(L, exchange, HttpApp::Use::Of::response, make, push);
}

inline int push_view(lua_State* L, std::string_view text) {
  lua_pushlstring(L, text.data(), text.size());
  return 1;
}

void define_request_type(lua_State* L);
void define_response_type(lua_State* L);

}  // namespace evlua::lua
