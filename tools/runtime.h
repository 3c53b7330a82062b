// What both programs share: choosing the backend, workers, and reporting.
#pragma once

#include <string>

#include "backends/select.h"
#include "core/scheduler.h"
#include "lua/signals.h"
#include "lua/slice.h"

namespace evlua::tools {

/// First of all: a descriptor of ours that got the number of a standard stream that is closed would be read and written
/// in its place. They stay closed for whoever uses them (EBADF), and for child processes.
void keep_standard_numbers() noexcept;

struct RuntimeOptions {
  unsigned workers = 0;  ///< 0: one per core
  std::string backend;   ///< empty: EVLUA_BACKEND, or auto
  bool stats = false;
  std::string trace;  ///< file for a timeline; empty: none
};

/// The number of workers to start: what was asked, or one per core this process may use.
unsigned worker_count(const RuntimeOptions& options);

/// The backend to use. On failure prints the reason to standard error and exits with 2. Prints one line when io_uring
/// was wanted by default and refused.
BackendChoice choose_backend(const RuntimeOptions& options, bool quiet);

/// Begins the timeline that is asked for. On failure prints the reason and exits with 2.
void begin_trace(const RuntimeOptions& options);
/// What is done before `leave` ends the process; null: nothing. [any thread]
void set_at_leave(void (*action)()) noexcept;
/// Ends the process now, with the timeline written, and with what was counted (tools/stats_report.h).
[[noreturn]] void leave(int code);

/// The descriptors that workers and what they do at the start will need can be had; else EMFILE. Where less is allowed,
/// one or the other would end in the middle of something.
Result<void> check_descriptors(unsigned workers) noexcept;
/// Why the program does not start, and what to do about it.
std::string start_failure(const Error& error);

/// Starts the threads that a program has besides its workers.
Result<void> start_helpers(lua::SignalHub& signals, lua::SliceMonitor& slices);

/// "evlua 0.1.0 (Lua 5.3.6, io_uring)"
std::string version_line(const char* program);

}  // namespace evlua::tools
