// What evluaserver tells about itself: its logs, and the figures on its admin listener.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "core/lockfree/futex_mutex.h"
#include "core/scheduler.h"
#include "core/task.h"
#include "net/http/access_log.h"
#include "net/http/handed_sockets.h"
#include "net/http/limits.h"
#include "net/http/listener_set.h"
#include "net/http/server.h"
#include "net/http/slow_requests.h"
#include "tools/figures.h"

namespace CLI {
class App;
}

namespace evlua::tools {

class AdminServer;

struct ObserveOptions {
  std::string access_log;  ///< empty: none
  std::string access_format = "combined";
  std::string error_log = "-";
  std::string log_level = "info";
  std::string request_ids = "off";
  std::string admin;  ///< empty: none
  std::vector<std::string> admin_names;
  double slow_seconds = 1;  ///< from when a request is shown as slow
};

void define_observe(CLI::App& app, ObserveOptions& options);
/// What of it is the server's business. False after printing what is wrong.
bool complete_observe(const ObserveOptions& options, http::Limits& limits);

/// False after printing what is wrong. Before there are threads.
bool open_error_log(const ObserveOptions& options);

/// The logs and figures of one server.
class Observer {
 public:
  using Opened = tl::expected<std::unique_ptr<Observer>, std::string>;

  /// Opens the log files. The error is what to print. It blocks.
  static Opened open(const ObserveOptions& options, unsigned workers);
  ~Observer();
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  /// Makes the log files that user's, so that they can be opened again. The error is what to print.
  tl::expected<void, std::string> give_logs_to(uid_t user, gid_t group) noexcept;
  /// Begins to answer on the admin listener, if there is to be one. The error is what to print.
  Task<tl::expected<void, std::string>> start(BlockingPool& pool, http::HandedSockets& handed);
  /// The admin listener's, for who takes over from us.
  std::vector<http::ListenerSet::Open> sockets() const;
  void leave_files() noexcept;
  /// After the last request: ends answering.
  Task<void> end(BlockingPool& pool);

  void fill(http::Server::Options& options) const;
  /// Where examined requests are reported to; null: nobody wants to know.
  http::SlowRequests* slow() noexcept { return measured() ? &slow_ : nullptr; }
  /// Whose figures they are, until null.
  void watch(Scheduler* scheduler, const http::Server* server);
  /// Writes the access log until it is cancelled. After the last request, so that nothing is lost.
  Task<void> write_logs(BlockingPool& pool);

  /// What SIGUSR1 does: the log files were renamed. It blocks. [any thread]
  static void reopen_logs();

 private:
  class Lane;

  Observer(const ObserveOptions& options, unsigned workers);
  bool measured() const noexcept { return !options_.admin.empty(); }
  Figures figures();

  const ObserveOptions options_;
  std::unique_ptr<http::AccessLog> access_log_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // by worker
  http::SlowRequests slow_;
  std::unique_ptr<AdminServer> admin_;
  double began_ = 0;
  Instant began_at_ = 0;

  FutexMutex lock_;  // of what is below
  Scheduler* scheduler_ = nullptr;
  const http::Server* server_ = nullptr;
  bool watched_ = false;
};

}  // namespace evlua::tools
