// --stats: what was counted, printed to standard error once at the end, whichever way the program ends.
#pragma once

#include "core/scheduler.h"

namespace evlua::tools {

/// What there is to be printed, while it lives.
class StatsReport {
 public:
  StatsReport(Scheduler& scheduler, bool wanted) noexcept;
  ~StatsReport();
  StatsReport(const StatsReport&) = delete;
  StatsReport& operator=(const StatsReport&) = delete;

  /// Prints it, if it is wanted. REQUIRES: the scheduler has ended.
  static void print();
  /// The same while all of it may still run. The process has to end then: whoever would end the report waits.
  /// [any thread]
  static void print_at_leave();
};

}  // namespace evlua::tools
