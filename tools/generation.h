// One load of the app: a number of Vms for each worker, with the app in each. A reload makes a new one while the old
// one answers what it has begun.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/scheduler.h"
#include "core/task.h"
#include "lua/http_app.h"
#include "lua/http_pool.h"
#include "lua/vm.h"

namespace evlua::tools {

class Generation {
 public:
  struct Options {
    std::string app;   ///< file; empty: every request is answered 404
    unsigned vms = 1;  ///< of each worker
    lua::Vm::Options vm;
    lua::HttpApp::Options app_options;
    http::Admission::Options admission;
  };
  using Loaded = tl::expected<std::unique_ptr<Generation>, std::string>;

  /// Loads the app into every Vm. `first`: of this process, so that `start_once` runs. The error is what to print; the
  /// tasks that had begun are ended then. Cancelling it ends all that Lua code.
  static Task<Loaded> load(Scheduler& scheduler, const Options& options, bool first);
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Who answers on that worker.
  http::Handler& handler(unsigned worker) noexcept { return *pools_[worker]; }
  lua::Vm& first_vm() noexcept { return *instances_.front().vm; }

  /// No more requests come: waits for those under way, until `drained_by`; runs `stop`, and if it is the `last` of the
  /// process `stop_once`; cancels what tasks are left. All that may take until `limit` after the requests; what goes on
  /// then is told, and ended by errors: false. The generation may be destroyed when it returns.
  Task<bool> end(Instant drained_by, Duration limit, bool last);

 private:
  struct Instance {
    std::unique_ptr<lua::Vm> vm;
    std::unique_ptr<lua::HttpApp> app;
  };

  Generation() = default;
  static Task<bool> cancel_tasks(lua::Vm& vm, Instant deadline);

  std::vector<Instance> instances_;
  std::vector<std::unique_ptr<lua::HttpPool>> pools_;  // by worker
};

}  // namespace evlua::tools
