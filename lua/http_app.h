// An application: Lua code that answers HTTP requests, in one Vm.
//
// The connection's task calls `handle`. When the Vm's strand is idle the Lua handler runs right there, on a recycled
// fiber, and the response is complete when `handle` returns: no queue, no hop. Otherwise, or when the handler waits,
// the exchange is deferred and given back when the fiber ends.
#pragma once

#include <string>
#include <vector>

#include "core/event.h"
#include "lua/fiber.h"
#include "lua/vm.h"
#include "net/http/exchange.h"

namespace evlua::lua {

class HttpApp final : public http::Handler {
 public:
  /// `show_errors` puts tracebacks into error pages.
  HttpApp(Vm& vm, bool show_errors) : vm_(vm), show_errors_(show_errors) {}

  /// Loads the file and runs its `start`. The error is what to print. [any worker]
  Task<tl::expected<void, std::string>> load(std::string path);
  /// Runs the app's `stop`, if any; its error is printed.
  Task<void> stop();

  bool handle(http::Exchange& exchange) noexcept override;
  void abandon(http::Exchange& exchange) noexcept override;

  Vm& vm() noexcept { return vm_; }

  /// What a request or response object refers to. Null when the request has ended. [strand]
  http::Exchange* find(std::uint32_t slot, std::uint64_t id) noexcept {
    return slot < active_.size() && active_[slot].id == id ? active_[slot].exchange : nullptr;
  }

 private:
  /// Lives in the exchange's storage while it is handled.
  struct Call : Runnable, Fiber::Owner {
    HttpApp* app = nullptr;
    http::Exchange* exchange = nullptr;
    std::uint32_t slot = 0;
    bool inside_handle = false;
    bool ended_inside = false;
  };
  static_assert(sizeof(Call) <= sizeof(http::Exchange::storage));

  struct Active {
    std::uint64_t id = 0;
    http::Exchange* exchange = nullptr;
    Fiber* fiber = nullptr;
  };

  struct Running;

  void run(Call& call);
  void end(Call& call, Fiber* fiber, Fiber::Outcome outcome);
  void report(http::Exchange& exchange, const std::string& text) const;
  Task<tl::expected<int, std::string>> call_lua(void (*push)(HttpApp&, lua_State*, const std::string&),
                                                std::string text);

  Vm& vm_;
  const bool show_errors_;
  int handler_ref_ = LUA_NOREF;
  int stop_ref_ = LUA_NOREF;
  std::vector<Active> active_;        // by slot
  std::vector<std::uint32_t> spare_;  // slots not in use
};

/// Makes the metatables of requests and responses, and pushes the two objects.
void define_http_types(lua_State* L);
void push_request_and_response(lua_State* L, HttpApp& app, std::uint32_t slot, std::uint64_t id);

}  // namespace evlua::lua
