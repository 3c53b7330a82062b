#include "lua/exchange_values.h"

#include "lua/bridge.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

int describe(lua_State* L) {
  const auto* reference = static_cast<ExchangeReference*>(lua_touserdata(L, 1));
  const bool live = reference->app->find(reference->slot, reference->id) != nullptr;
  luaL_getmetafield(L, 1, "__name");
  lua_pushfstring(L, "%s (%s)", lua_tostring(L, -1), live ? "live" : "ended");
  return 1;
}
void push_reference(lua_State* L, HttpApp& app, std::uint32_t slot, std::uint64_t id, const char* type) {
  *static_cast<ExchangeReference*>(lua_newuserdata(L, sizeof(ExchangeReference))) = {&app, id, slot};
  luaL_setmetatable(L, type);
}
}  // namespace

const luaL_Reg kExchangeMeta[] = {{"__tostring", describe}, {nullptr, nullptr}};

http::Exchange& check_exchange(lua_State* L, const char* type) {
  auto* reference = static_cast<ExchangeReference*>(check_object(L, 1, type));
  http::Exchange* exchange = reference->app->find(reference->slot, reference->id);
  if (exchange == nullptr) luaL_error(L, "the request has ended; copy what you need while it is handled");
  return *exchange;
}

void define_http_types(lua_State* L) {
  define_request_type(L);
  define_response_type(L);
}

void push_request_and_response(lua_State* L, HttpApp& app, std::uint32_t slot, std::uint64_t id) {
  push_reference(L, app, slot, id, kRequestType);
  push_reference(L, app, slot, id, kResponseType);
}

}  // namespace evlua::lua
