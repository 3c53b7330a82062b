#include "lua/http_app.h"

#include <array>
#include <memory>
#include <new>

#include "core/log.h"
#include "core/worker.h"
#include "lua/bridge.h"
#include "lua/bytecode.h"
#include "lua/error_page.h"
#include "net/http/accept.h"

namespace evlua::lua {

namespace {

constexpr const char* kTooLong = "it takes too long";  // for a fiber that is given up

/// Returns a handler and two functions for the end, or what is wrong with the file: in a line, since where it was found
/// is in nobody's code.
constexpr const char* kLoad = R"lua(
local path, starts, starts_once, stops_once = ...
if path == "" then return function(_, res) res:status(404):text("Not Found\n") end end  -- static files only
local chunk, message = loadfile(path)
if not chunk then
  if message:find("^cannot ") then message = message .. "; the app is a Lua file that returns a function (req, res)" end
  return message
end
local app = chunk()
local handle = app
if type(app) == "table" then
  handle = app.handle
  if starts_once and app.start_once then app.start_once() end
  if starts and app.start then app.start() end
end
if type(handle) ~= "function" then
  return path .. ": the app must return a function (req, res), or a table with such a function as 'handle'"
end
if type(app) ~= "table" then return handle end
return handle, starts and app.stop or nil, stops_once and app.stop_once or nil
)lua";

}  // namespace

/// A fiber whose end a C++ task waits for.
struct HttpApp::Running : Fiber::Owner, Runnable {
  HttpApp* app = nullptr;
  void (*push)(HttpApp&, lua_State*, const std::string&) = nullptr;
  const std::string* text = nullptr;
  Fiber* fiber = nullptr;  // as long as it is live
  bool loads = false;
  bool failed = false;
  std::string message;
  Event done;
};

Task<tl::expected<int, std::string>> HttpApp::call_lua(void (*push)(HttpApp&, lua_State*, const std::string&),
                                                       std::string text, bool loads, Instant deadline) {
  Running running;
  running.loads = loads;
  running.app = this;
  running.push = push;
  running.text = &text;
  running.ended = [](Fiber::Owner& owner, Fiber& fiber, Fiber::Outcome outcome) {
    auto& self = static_cast<Running&>(owner);
    self.fiber = nullptr;
    self.failed = outcome == Fiber::Outcome::failed;
    if (self.failed) {
      self.message = fiber.failure_text();
    } else if (self.loads && lua_type(fiber.root(), 1) == LUA_TSTRING) {
      self.failed = true;
      self.message = lua_tostring(fiber.root(), 1);
    } else if (self.loads) {
      lua_State* L = self.app->vm_.main_state();
      lua_settop(fiber.root(), 3);
      lua_xmove(fiber.root(), L, 3);
      self.app->stop_once_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
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
    self.fiber = fiber;
    fiber->start_now(lua_gettop(fiber->root()) - 1, &self);
  };
  vm_.strand().enqueue(running);
  const Result<void> ended = co_await running.done.wait(deadline);
  if (!ended) co_await give_up(running);
  if (running.failed) co_return tl::unexpected(std::move(running.message));
  co_return 0;
}

/// Its time is over: returns when it has ended.
Task<void> HttpApp::give_up(Running& running) {
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  struct Doom : Runnable {
    Running* running;
    Event done;
  } doom;
  doom.running = &running;
  doom.run = [](Runnable& self) noexcept {
    auto& here = static_cast<Doom&>(self);
    if (here.running->fiber != nullptr) here.running->fiber->doom(kTooLong);
    here.done.set();
  };
  // It may keep the strand busy where it cannot be interrupted by others, only by errors.
  vm_.condemn(kTooLong);
  vm_.strand().enqueue(doom);
  (void)co_await doom.done.wait();
  (void)co_await running.done.wait();
}

Task<tl::expected<void, std::string>> HttpApp::load(std::string path, Once once) {
  once_ = once;
  auto loaded = co_await call_lua(
      [](HttpApp& app, lua_State* L, const std::string& file) {
        define_http_types(L);
        EVLUA_CHECK(luaL_loadbufferx(L, kLoad, std::char_traits<char>::length(kLoad), "=[evluaserver]", "t") == LUA_OK);
        lua_pushlstring(L, file.data(), file.size());
        const bool starts = app.options_.start;
        lua_pushboolean(L, starts ? 1 : 0);
        lua_pushboolean(L, starts && app.once_ == Once::start_and_stop ? 1 : 0);
        lua_pushboolean(L, starts && app.once_ != Once::ignore ? 1 : 0);
      },
      std::move(path), true, kNever);
  if (!loaded) co_return tl::unexpected(std::move(loaded.error()));
  co_return tl::expected<void, std::string>();
}

/// False: it took too long.
Task<bool> HttpApp::call_stop(void (*push)(HttpApp&, lua_State*, const std::string&), Instant deadline) {
  std::string none;
  auto stopped = co_await call_lua(push, std::move(none), false, deadline);
  if (!stopped) Log::error("error in stop: %s", stopped.error().c_str());
  co_return vm_.condemned() == nullptr;
}

Task<bool> HttpApp::stop(bool last, Instant deadline) {
  bool in_time = true;
  if (stop_ref_ != LUA_REFNIL && stop_ref_ != LUA_NOREF) {
    in_time = co_await call_stop(
        [](HttpApp& app, lua_State* L, const std::string&) { lua_rawgeti(L, LUA_REGISTRYINDEX, app.stop_ref_); },
        deadline);
  }
  if (last && stop_once_ref_ != LUA_REFNIL && stop_once_ref_ != LUA_NOREF) {
    in_time = co_await call_stop(
        [](HttpApp& app, lua_State* L, const std::string&) { lua_rawgeti(L, LUA_REGISTRYINDEX, app.stop_once_ref_); },
        deadline);
  }
  co_return in_time;
}

Task<void> HttpApp::drain(Instant deadline) {
  draining_.store(true);
  if (pending_.load() != 0) (void)co_await drained_.wait(deadline);
}

/// On the strand: whoever has drained comes by it before the app is gone.
void HttpApp::no_longer_pending() noexcept {
  if (pending_.fetch_sub(1) == 1 && draining_.load()) drained_.set();
}

bool HttpApp::try_handle(http::Exchange& exchange, bool& complete) noexcept {
  return vm_.strand().try_run([&] {
    Call& call = *new (exchange.storage.data()) Call;
    call.app = this;
    call.exchange = &exchange;
    call.inside_handle = true;
    run(call);
    complete = call.ended_inside;
    if (!complete) {
      pending_.fetch_add(1);
      call.inside_handle = false;
      exchange.defer();
    }
  });
}

void HttpApp::queue(http::Exchange& exchange) noexcept {
  Call& call = *new (exchange.storage.data()) Call;
  call.app = this;
  call.exchange = &exchange;
  call.Runnable::run = [](Runnable& self) noexcept {
    auto& queued = static_cast<Call&>(self);
    queued.app->run_queued(queued);
  };
  pending_.fetch_add(1);
  exchange.defer();
  vm_.strand().enqueue(call);
}

void HttpApp::run_queued(Call& call) {
  if (admission_ == nullptr) return run(call);
  admission_->leave_queue();
  const Instant now = Worker::current().backend().now();
  constexpr auto kAt = http::Admission::At::head_of_queue;
  if (admission_->admits(*call.exchange, now, expected_wait(now), kAt)) return run(call);
  counts().shed.add(1);
  call.exchange->fail_for_now();
  call.exchange->complete();  // `call` is gone
  no_longer_pending();
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
  fiber->set_label("request");
  lua_State* L = fiber->root();
  lua_rawgeti(L, LUA_REGISTRYINDEX, handler_ref_);
  push_request_and_response(L, *this, call.slot, call.exchange->id());
  if (options_.cpu_limit != kNever) fiber->limit_cpu(options_.cpu_limit);
  if (options_.time_limit != kNever) fiber->limit_time(deadline_after(monotonic_now(), options_.time_limit));
  fiber->start_now(2, &call);
}

void HttpApp::end(Call& call, Fiber* fiber, Fiber::Outcome outcome) {
  End how;
  how.failed = outcome == Fiber::Outcome::failed;
  if (how.failed) how.text = fiber != nullptr ? fiber->failure_text() : "not enough memory for a handler";
  if (fiber != nullptr) {
    how.limited = fiber->doom() != nullptr || fiber->cancelled() == OpStop::deadline;
    active_[call.slot] = {};
    spare_.push_back(call.slot);
    vm_.slice_load().ended(fiber->cuts());
    if (admission_ != nullptr) admission_->charge(*call.exchange, fiber->cuts());
  }
  if (call.uses.empty()) return give_back(call, how);
  call.end = std::make_unique<End>(std::move(how));
  call.uses.for_each([](Use& use) { use.wait_.cancel(use.wait_); });
}

/// Nobody uses the exchange any more.
void HttpApp::give_back(Call& call, const End& end) {
  http::Exchange& exchange = *call.exchange;
  if (end.failed) {
    answer_failure(exchange, end);
  } else if (!exchange.finished()) {
    (void)exchange.finish();
  }
  if (call.inside_handle) {
    call.ended_inside = true;
  } else {
    exchange.complete();  // `call` lived in the exchange: gone from here on
    no_longer_pending();
  }
}

void HttpApp::answer_failure(http::Exchange& exchange, const End& end) {
  report(exchange, end.text);
  // A handler that wanted a body and got none has done what it could: assert(req:body()).
  const int refusal = exchange.body_refusal() != 0 ? exchange.body_refusal() : 500;
  const int status = end.limited ? 503 : refusal;
  if (end.limited) counts().limited.add(1);
  if (status == 500) counts().errors.add(1);
  if (exchange.headers_sent() || !options_.show_errors || !show(exchange, status, end.text)) {
    exchange.body_refusal() == 503 ? exchange.fail_for_now() : exchange.fail(status);
  }
}

HttpApp::Call& HttpApp::call_of(http::Exchange& exchange) noexcept {
  return *reinterpret_cast<Call*>(exchange.storage.data());
}

HttpApp::Use::Use(http::Exchange& exchange, Suspension& wait, Of part) noexcept
    : call_(call_of(exchange)), wait_(wait), part_(part) {
  call_.uses.push_back(*this);
}

void HttpApp::Use::end(Fiber& waiter) noexcept {
  Call& call = call_;
  List<Use>::erase(*this);
  const bool last = call.end != nullptr && call.uses.empty();
  waiter.complete();  // it may have got views of what the exchange holds
  if (!last) return;
  const std::unique_ptr<End> end = std::move(call.end);
  call.app->give_back(call, *end);
}

bool HttpApp::is_being_read(http::Exchange& exchange) noexcept {
  bool read = false;
  call_of(exchange).uses.for_each([&read](const Use& use) { read |= use.part_ == Use::Of::request; });
  return read;
}

/// False: nothing was sent.
bool HttpApp::show(http::Exchange& exchange, int status, const std::string& text) const {
  static constexpr std::array<std::string_view, 2> kTypes{"text/plain", "text/html"};
  const std::string_view accept = exchange.header("accept").value_or("*/*");
  const bool html = http::choose_media_type(accept, kTypes).value_or(0) == 1;
  for (const char* of_another_body : {"Content-Length", "Content-Encoding", "ETag", "Last-Modified"}) {
    (void)exchange.remove_header(of_another_body);
  }
  (void)exchange.set_status(status);
  (void)exchange.set_header("Content-Type", html ? "text/html; charset=utf-8" : "text/plain; charset=utf-8");
  if (!html) return exchange.send(text + "\n").has_value();
  (void)exchange.set_header("Content-Security-Policy", kErrorPagePolicy);
  const std::string request = std::string(exchange.method()) + " " + std::string(exchange.target());
  return exchange.send(error_page(request, text, loaded_files())).has_value();
}

void HttpApp::report(http::Exchange& exchange, const std::string& text) const {
  std::array<char, http::Exchange::kRequestIdRoom> room;
  const std::string_view id = exchange.request_id(room);
  Log::error("request %.*s (req.id %llu, trace %s): %s", static_cast<int>(id.size()), id.data(),
             static_cast<unsigned long long>(exchange.id()), exchange.trace().id_text().c_str(), text.c_str());
}

/// On the strand of its Vm, if the exchange has not ended by then. The app may be gone as soon as it has: a reload
/// waits for handlers only, not for slow readers of what they have sent.
void HttpApp::tell_fiber(http::Exchange& exchange, void (*act)(HttpApp&, http::Exchange&, Fiber&)) noexcept {
  struct Wish : Runnable {
    HttpApp* app;
    std::uint64_t id;
    void (*act)(HttpApp&, http::Exchange&, Fiber&);
  };
  auto message = std::make_unique<Wish>();
  message->id = exchange.id();
  message->act = act;
  message->run = [](Runnable& self) noexcept {
    auto* wish = static_cast<Wish*>(&self);
    for (const Active& active : wish->app->active_) {
      if (active.fiber != nullptr && active.id == wish->id) wish->act(*wish->app, *active.exchange, *active.fiber);
    }
    delete wish;
  };
  exchange.while_deferred([&exchange, &message] {
    message->app = call_of(exchange).app;
    message->app->vm_.strand().enqueue(*message.release());
  });
}

void HttpApp::abandon(http::Exchange& exchange) noexcept {
  tell_fiber(exchange, [](HttpApp&, http::Exchange&, Fiber& fiber) { fiber.doom("the server stops"); });
}

void HttpApp::expire(http::Exchange& exchange) noexcept {
  tell_fiber(exchange,
             [](HttpApp&, http::Exchange&, Fiber& fiber) { fiber.doom("time limit exceeded", OpStop::deadline); });
}

void HttpApp::examine(http::Exchange& exchange) noexcept {
  tell_fiber(exchange, [](HttpApp& app, http::Exchange& own, Fiber& fiber) {
    if (app.options_.slow == nullptr) return;
    app.options_.slow->under_way(own, fiber.traceback("it is at"));
  });
}

HttpApp::Counts& HttpApp::counts() noexcept {
  static auto& all = *new Counts;
  return all;
}

}  // namespace evlua::lua
