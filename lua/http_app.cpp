#include "lua/http_app.h"

#include <cstdio>
#include <new>

#include "lua/bridge.h"

namespace evlua::lua {

namespace {

constexpr const char* kLoad = R"lua(
local path = ...
local chunk, message = loadfile(path)
if not chunk then error(message, 0) end
local app = chunk()
local handle = app
if type(app) == "table" then
  handle = app.handle
  if app.start then app.start() end
end
if type(handle) ~= "function" then
  error(path .. ": the app must return a function (req, res), or a table with such a function as 'handle'", 0)
end
return handle, type(app) == "table" and app.stop or nil
)lua";

}  // namespace

/// A fiber whose end a C++ task waits for.
struct HttpApp::Running : Fiber::Owner, Runnable {
  HttpApp* app = nullptr;
  void (*push)(HttpApp&, lua_State*, const std::string&) = nullptr;
  const std::string* text = nullptr;
  bool failed = false;
  std::string message;
  Event done;
};

Task<tl::expected<int, std::string>> HttpApp::call_lua(void (*push)(HttpApp&, lua_State*, const std::string&),
                                                       std::string text) {
  Running running;
  running.app = this;
  running.push = push;
  running.text = &text;
  running.ended = [](Fiber::Owner& owner, Fiber& fiber, Fiber::Outcome outcome) {
    auto& self = static_cast<Running&>(owner);
    self.failed = outcome == Fiber::Outcome::failed;
    if (self.failed) {
      self.message = fiber.failure_text();
    } else if (lua_gettop(fiber.root()) == 2) {  // from kLoad
      lua_xmove(fiber.root(), self.app->vm_.main_state(), 2);
      lua_State* L = self.app->vm_.main_state();
      self.app->stop_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
      self.app->handler_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    self.done.set();
  };
  running.run = [](Runnable& work) noexcept {
    auto& self = static_cast<Running&>(work);
    Fiber* fiber = self.app->vm_.take_fiber();
    EVLUA_CHECK(fiber != nullptr);
    self.push(*self.app, fiber->root(), *self.text);
    fiber->start_now(lua_gettop(fiber->root()) - 1, &self);
  };
  vm_.strand().enqueue(running);
  (void)co_await running.done.wait();
  if (running.failed) co_return tl::unexpected(std::move(running.message));
  co_return 0;
}

Task<tl::expected<void, std::string>> HttpApp::load(std::string path) {
  auto loaded = co_await call_lua(
      [](HttpApp&, lua_State* L, const std::string& file) {
        define_http_types(L);
        EVLUA_CHECK(luaL_loadbufferx(L, kLoad, std::char_traits<char>::length(kLoad), "=[evluaserver]", "t") == LUA_OK);
        lua_pushlstring(L, file.data(), file.size());
      },
      std::move(path));
  if (!loaded) co_return tl::unexpected(std::move(loaded.error()));
  co_return tl::expected<void, std::string>();
}

Task<void> HttpApp::stop() {
  if (stop_ref_ == LUA_REFNIL || stop_ref_ == LUA_NOREF) co_return;
  std::string none;
  auto stopped = co_await call_lua(
      [](HttpApp& app, lua_State* L, const std::string&) { lua_rawgeti(L, LUA_REGISTRYINDEX, app.stop_ref_); },
      std::move(none));
  if (!stopped) std::fprintf(stderr, "evluaserver: error in stop: %s\n", stopped.error().c_str());
}

bool HttpApp::handle(http::Exchange& exchange) noexcept {
  Call& call = *new (exchange.storage.data()) Call;
  call.app = this;
  call.exchange = &exchange;
  bool complete = false;
  const bool entered = vm_.strand().try_run([&] {
    call.inside_handle = true;
    run(call);
    complete = call.ended_inside;
    if (!complete) {
      call.inside_handle = false;
      exchange.defer();
    }
  });
  if (entered) return complete;
  exchange.defer();
  call.Runnable::run = [](Runnable& self) noexcept {
    auto& queued = static_cast<Call&>(self);
    queued.app->run(queued);
  };
  vm_.strand().enqueue(call);
  return false;
}

void HttpApp::run(Call& call) {
  Fiber* fiber = vm_.take_fiber();
  if (fiber == nullptr) {
    end(call, nullptr, Fiber::Outcome::failed);
    return;
  }
  if (spare_.empty()) {
    spare_.push_back(static_cast<std::uint32_t>(active_.size()));
    active_.emplace_back();
  }
  call.slot = spare_.back();
  spare_.pop_back();
  active_[call.slot] = {call.exchange->id(), call.exchange, fiber};
  call.ended = [](Fiber::Owner& owner, Fiber& ended, Fiber::Outcome outcome) {
    auto& finished = static_cast<Call&>(owner);
    finished.app->end(finished, &ended, outcome);
  };
  lua_State* L = fiber->root();
  lua_rawgeti(L, LUA_REGISTRYINDEX, handler_ref_);
  push_request_and_response(L, *this, call.slot, call.exchange->id());
  fiber->start_now(2, &call);
}

void HttpApp::end(Call& call, Fiber* fiber, Fiber::Outcome outcome) {
  http::Exchange& exchange = *call.exchange;
  if (fiber != nullptr) {
    active_[call.slot] = {};
    spare_.push_back(call.slot);
  }
  if (outcome == Fiber::Outcome::failed) {
    const std::string text = fiber != nullptr ? fiber->failure_text() : "not enough memory for a handler";
    report(exchange, text);
    if (!exchange.headers_sent() && show_errors_) {
      (void)exchange.set_status(500);
      (void)exchange.set_header("Content-Type", "text/plain; charset=utf-8");
      (void)exchange.send(text + "\n");
    } else {
      exchange.fail(500);
    }
  } else if (!exchange.finished()) {
    (void)exchange.finish();
  }
  if (call.inside_handle) {
    call.ended_inside = true;
  } else {
    exchange.complete();  // `call` lived in the exchange: gone from here on
  }
}

void HttpApp::report(http::Exchange& exchange, const std::string& text) const {
  std::fprintf(stderr, "evluaserver: request %llu: %s\n", static_cast<unsigned long long>(exchange.id()), text.c_str());
}

void HttpApp::abandon(http::Exchange& exchange) noexcept {
  struct Message : Runnable {
    HttpApp* app;
    std::uint64_t id;
  };
  auto* message = new Message;
  message->app = this;
  message->id = exchange.id();
  message->run = [](Runnable& self) noexcept {
    auto* wish = static_cast<Message*>(&self);
    for (Active& active : wish->app->active_) {
      if (active.fiber != nullptr && active.id == wish->id) active.fiber->cancel(OpStop::cancelled);
    }
    delete wish;
  };
  vm_.strand().enqueue(*message);
}

}  // namespace evlua::lua
