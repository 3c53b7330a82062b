// An application: Lua code that answers HTTP requests, in one Vm.
//
// The connection's task calls `try_handle`. When the Vm's strand is idle the Lua handler runs right there, on a
// recycled fiber, and the response is complete when it returns: no queue, no hop. When the handler waits, or had to be
// queued, the exchange is deferred and given back when the fiber ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/shared/metrics.h"
#include "lua/fiber.h"
#include "lua/vm.h"
#include "net/http/admission.h"
#include "net/http/exchange.h"
#include "net/http/slow_requests.h"

namespace evlua::lua {

class HttpApp final {
 public:
  struct Options {
    bool show_errors = false;            ///< tracebacks in error pages
    bool start = true;                   ///< run the app's `start_once`, `start` and the like
    Duration cpu_limit = kNever;         ///< processor time of one request
    Duration time_limit = kNever;        ///< http::Limits::handler_timeout, for handlers that compute
    http::SlowRequests* slow = nullptr;  ///< where `examine` reports to
  };
  HttpApp(Vm& vm, const Options& options) : vm_(vm), options_(options) {}

  /// What this Vm has to do with `start_once` and `stop_once`: nothing; only the latter; or both.
  enum class Once : std::uint8_t { ignore, stop, start_and_stop };

  /// Loads the file and runs its `start_once`, if that is its part, and its `start`. The error is what to print.
  /// Cancelling it ends its Lua code, if need be by errors, as all other Lua code that still runs in the Vm: that is to
  /// be given up then. [any worker]
  Task<tl::expected<void, std::string>> load(std::string path, Once once);
  /// No more requests come: returns when those under way have ended, or at `deadline`. [any worker]
  Task<void> drain(Instant deadline);
  /// Runs the app's `stop`, if any, and when the process ends (`last`) its `stop_once`; errors are printed. What goes
  /// on at `deadline` is ended by errors as well; false then.
  Task<bool> stop(bool last, Instant deadline);

  /// Runs the handler now; false, and nothing has happened, when the Vm is busy.
  bool try_handle(http::Exchange& exchange, bool& complete) noexcept;
  /// Runs the handler when the Vm has time, if it is admitted then.
  void queue(http::Exchange& exchange) noexcept;
  /// As http::Handler::abandon, of whichever app has the exchange.
  static void abandon(http::Exchange& exchange) noexcept;
  /// As http::Handler::expire.
  static void expire(http::Exchange& exchange) noexcept;
  /// As http::Handler::examine.
  static void examine(http::Exchange& exchange) noexcept;

  /// Of all apps of the process. [any thread]
  struct Counts {
    Counter errors;   ///< of handlers
    Counter shed;     ///< requests that were refused, with 503, since they had waited too long
    Counter limited;  ///< requests that were ended, with 503, by a limit
  };
  static Counts& counts() noexcept;

  Vm& vm() noexcept { return vm_; }
  /// How long a handler will wait for the processor when it has begun. [any thread]
  Duration expected_wait(Instant now) const noexcept { return vm_.slice_load().expected(now); }
  /// Whom queue() asks; it must outlive the app's requests. Before there are any.
  void set_admission(http::Admission& admission) noexcept { admission_ = &admission; }

  /// What a request or response object refers to. Null when the request has ended. [strand]
  http::Exchange* find(std::uint32_t slot, std::uint64_t id) noexcept {
    return slot < active_.size() && active_[slot].id == id ? active_[slot].exchange : nullptr;
  }
  /// The task of its handler. REQUIRES: it has not ended. [strand]
  Fiber& task_of(std::uint32_t slot) noexcept { return *active_[slot].fiber; }

  /// A wait of whichever task for something of an exchange, which is not given back before it is over. [strand]
  class Use;
  /// A task waits for some of the body of the request. [strand]
  static bool is_being_read(http::Exchange& exchange) noexcept;

 private:
  /// How a handler has ended.
  struct End {
    bool failed = false;
    bool limited = false;
    std::string text;  // of the failure
  };

  /// Lives in the exchange's storage while it is handled.
  struct Call : Runnable, Fiber::Owner {
    HttpApp* app = nullptr;
    http::Exchange* exchange = nullptr;
    std::uint32_t slot = 0;
    bool inside_handle = false;
    bool ended_inside = false;
    List<Use> uses;
    std::unique_ptr<End> end;  // set while other tasks still have to let go of the exchange
  };
  static_assert(sizeof(Call) <= sizeof(http::Exchange::storage));

  struct Active {
    std::uint64_t id = 0;
    http::Exchange* exchange = nullptr;
    Fiber* fiber = nullptr;
  };

  struct Running;

  void run(Call& call);
  void run_queued(Call& call);
  void end(Call& call, Fiber* fiber, Fiber::Outcome outcome);
  void give_back(Call& call, const End& end);
  void answer_failure(http::Exchange& exchange, const End& end);
  static Call& call_of(http::Exchange& exchange) noexcept;
  static void tell_fiber(http::Exchange& exchange, void (*act)(HttpApp&, http::Exchange&, Fiber&)) noexcept;
  void no_longer_pending() noexcept;
  Task<bool> call_stop(void (*push)(HttpApp&, lua_State*, const std::string&), Instant deadline);
  bool show(http::Exchange& exchange, int status, const std::string& text) const;
  void report(http::Exchange& exchange, const std::string& text) const;
  Task<tl::expected<int, std::string>> call_lua(void (*push)(HttpApp&, lua_State*, const std::string&),
                                                std::string text, bool loads, Instant deadline);
  Task<void> give_up(Running& running);

  Vm& vm_;
  const Options options_;
  http::Admission* admission_ = nullptr;
  Once once_ = Once::ignore;
  int handler_ref_ = LUA_NOREF;
  int stop_ref_ = LUA_NOREF;
  int stop_once_ref_ = LUA_NOREF;
  std::atomic<std::uint32_t> pending_{0};  // requests that have not ended, but for those that end where they began
  std::atomic<bool> draining_{false};
  Event drained_;
  std::vector<Active> active_;        // by slot
  std::vector<std::uint32_t> spare_;  // slots not in use
};

class HttpApp::Use : public ListNode {
 public:
  enum class Of : std::uint8_t { request, response };

  Use(http::Exchange& exchange, Suspension& wait, Of part) noexcept;
  /// The wait is over; this one is gone with it.
  void end(Fiber& waiter) noexcept;

 private:
  friend class HttpApp;

  Call& call_;
  Suspension& wait_;
  const Of part_;
};

/// Makes the metatables of requests and responses, and pushes the two objects.
void define_http_types(lua_State* L);
void push_request_and_response(lua_State* L, HttpApp& app, std::uint32_t slot, std::uint64_t id);

}  // namespace evlua::lua
