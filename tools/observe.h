// What evluaserver tells about itself: its logs.
#pragma once

#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "core/scheduler.h"
#include "core/task.h"
#include "net/http/access_log.h"
#include "net/http/limits.h"

namespace CLI {
class App;
}

namespace evlua::tools {

struct ObserveOptions {
  std::string access_log;  ///< empty: none
  std::string access_format = "combined";
  std::string error_log = "-";
  std::string log_level = "info";
  std::string request_ids = "off";
};

void define_observe(CLI::App& app, ObserveOptions& options);
http::RequestIds request_ids_of(const ObserveOptions& options);

/// False after printing what is wrong. Before there are threads.
bool open_error_log(const ObserveOptions& options);

/// The logs and figures of one server.
class Observer {
 public:
  using Opened = tl::expected<std::unique_ptr<Observer>, std::string>;

  /// The error is what to print. It blocks.
  static Opened open(const ObserveOptions& options, unsigned workers);
  ~Observer();
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  /// For http::Server::Options.
  std::vector<http::RequestLog*> request_logs() const;
  /// Writes until it is cancelled. After the last request, so that nothing is lost.
  Task<void> run(BlockingPool& pool);

  /// What SIGUSR1 does: the log files were renamed. It blocks. [any thread]
  static void reopen_logs();

 private:
  Observer() = default;

  std::unique_ptr<http::AccessLog> access_log_;
  unsigned workers_ = 1;
};

}  // namespace evlua::tools
