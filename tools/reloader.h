// Exchanges the app while requests go on: on SIGHUP, and with --watch when a file that it was loaded from has changed.
//
// The new generation is loaded beside the old one and takes over on every worker; the old one ends when what it has
// begun is answered, or its grace is over. An app that does not load leaves the old one in place; so does one that
// takes too long, and what was asked for meanwhile is done.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/event.h"
#include "core/scope.h"
#include "core/shared/metrics.h"
#include "lua/signals.h"
#include "tools/app_handler.h"
#include "tools/generation.h"

namespace evlua::tools {

/// By path; see file_state.
using FileStates = std::map<std::string, std::string>;

class Reloader {
 public:
  struct Options {
    Duration grace = 30 * kSecond;        ///< for requests of an old generation
    Duration stop_limit = 10 * kSecond;   ///< for its `stop` and its tasks
    Duration start_limit = 60 * kSecond;  ///< for loading a new one
    bool watch = false;
  };

  /// `handlers` (one per worker), `signals` and `scheduler` must outlive it.
  Reloader(Scheduler& scheduler, Generation::Options app, Options options, std::vector<AppHandler>& handlers,
           lua::SignalHub& signals)
      : scheduler_(scheduler),
        app_(std::move(app)),
        options_(options),
        handlers_(handlers),
        signals_(signals),
        ending_(scheduler) {}

  /// Loads the first generation. The error is what to print. `stop_action` is what SIGINT and SIGTERM do from the next
  /// one on, see SignalHub::attach.
  Task<tl::expected<void, std::string>> start(void (*stop_action)(lua::Vm&, int signal));
  /// Reloads when asked to, until it is cancelled. What loads then, when it takes too long, or when the next reason
  /// comes, is given up.
  Task<void> run();
  /// After the last request and run(): ends all generations, by force from `deadline` on, but for a last moment that
  /// the present one has in any case: false then.
  Task<bool> end(Instant deadline);

  lua::Vm& first_vm() noexcept { return present_->first_vm(); }

  /// Of the process. [any thread]
  struct Counts {
    Counter done, failed;
  };
  static Counts& counts() noexcept;

  /// [any thread]
  void reload_soon() noexcept {
    asked_.store(true);
    news_.set();
  }

 private:
  struct Loading;
  enum class News : std::uint8_t { reload_wanted, loaded, late, cancelled };

  Task<void> begin_loading();
  Task<void> load(std::shared_ptr<Loading> loading);
  void give_up(const char* why);
  Task<void> put_into_use();
  Task<void> take_over();
  Task<void> end_old(std::unique_ptr<Generation> old);
  Task<News> wait_for_news();

  Scheduler& scheduler_;
  const Generation::Options app_;
  const Options options_;
  std::vector<AppHandler>& handlers_;
  lua::SignalHub& signals_;
  void (*stop_action_)(lua::Vm&, int) = nullptr;
  std::unique_ptr<Generation> present_;
  TaskScope ending_;
  Event news_;  // look at what is below
  std::atomic<bool> asked_{false};
  std::shared_ptr<Loading> loading_;  // null: nothing loads
  FileStates files_;                  // when the app was loaded
};

}  // namespace evlua::tools
