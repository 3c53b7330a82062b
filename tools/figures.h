// Everything that is to be told of a running server, gathered at one time from where it is counted.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/scheduler.h"
#include "core/shared/metrics.h"
#include "lua/vm.h"
#include "net/http/server.h"
#include "net/http/slow_requests.h"

namespace evlua::tools {

/// One worker's counts.
struct WorkerFigures {
  std::uint64_t accepted = 0, closed = 0, accept_failures = 0, turned_away = 0, full = 0;
  std::uint64_t handshakes = 0, handshake_failures = 0, streams = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::array<std::uint64_t, 5> statuses{};
  std::uint64_t refused = 0, aborted = 0;
  std::array<std::uint64_t, http::kDurationBounds.size() + 1> durations{};
  std::uint64_t duration_sum = 0;
  std::uint64_t tasks_run = 0, tasks_stolen = 0, operations = 0, parks = 0, overruns = 0;
  std::uint64_t longest_poll_gap = 0;  ///< the most, where others are sums

  /// [any thread]
  static WorkerFigures of(const http::StationCounters& station, const WorkerCounters& worker) noexcept;
  void add(const WorkerFigures& other) noexcept;
  std::uint64_t requests() const noexcept;
};

struct ProcessFigures {
  std::uint64_t resident_bytes = 0;
  std::uint64_t descriptors = 0;
  double cpu_seconds = 0;
};
/// Reads /proc; it blocks.
ProcessFigures process_figures();

struct Figures {
  std::string state;  ///< "starting", "serving", "draining" or "ended"
  double began = 0;   ///< seconds since 1970
  double uptime = 0;  ///< seconds
  ProcessFigures process;
  std::vector<WorkerFigures> workers;
  std::vector<lua::Vm::Figures> vms;
  std::vector<http::SlowRequests::Entry> slow;
  double lua_errors = 0, limited = 0, shed = 0, reloads = 0, reload_failures = 0;
  std::uint64_t slices = 0;
  std::uint64_t body_memory = 0;
  std::uint64_t encoders = 0, encoders_refused = 0;
  bool logs = false;  ///< there is an access log
  std::uint64_t log_lines = 0, log_dropped = 0;
  std::uint64_t error_log_dropped = 0;
  struct SharedHistogram {
    std::string name;
    std::vector<double> bounds;
    Histogram::Snapshot snapshot;
  };
  std::vector<std::pair<std::string, double>> shared_counters;
  std::vector<SharedHistogram> shared_histograms;

  /// Of all workers.
  WorkerFigures sum() const noexcept;
};

/// For Prometheus: text format 0.0.4.
std::string metrics_text(const Figures& figures);
/// For the dashboard, and for programs.
std::string status_json(const Figures& figures);

}  // namespace evlua::tools
