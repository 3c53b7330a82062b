#include "tools/runtime.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <lua.hpp>
#include <vector>

#include "core/trace.h"
#include "tools/stats_report.h"

#ifndef EVLUA_VERSION
#define EVLUA_VERSION "0.1.0"
#endif

namespace evlua::tools {

unsigned worker_count(const RuntimeOptions& options) {
  if (options.workers != 0) return options.workers;
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  const int count = CPU_COUNT(&allowed);
  return count < 1 ? 1 : static_cast<unsigned>(count);
}

BackendChoice choose_backend(const RuntimeOptions& options, bool quiet) {
  auto chosen = select_backend(options.backend);
  if (!chosen) {
    std::fprintf(stderr, "evlua: %s\n", chosen.error().c_str());
    std::exit(2);
  }
  if (!chosen->refusal.empty() && !quiet) std::fprintf(stderr, "evlua: using libev: %s\n", chosen->refusal.c_str());
  return std::move(*chosen);
}

void begin_trace(const RuntimeOptions& options) {
  if (options.trace.empty() || Trace::begin(options.trace.c_str())) return;
  std::fprintf(stderr, "evlua: cannot write the trace '%s': %s\n", options.trace.c_str(), std::strerror(errno));
  std::exit(2);
}

void keep_standard_numbers() noexcept {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/", O_PATH | O_CLOEXEC);
  }
}

namespace {
std::atomic<void (*)()> at_leave{nullptr};
}  // namespace

void set_at_leave(void (*action)()) noexcept { at_leave.store(action); }

void leave(int code) {
  if (auto* const action = at_leave.load()) action();
  StatsReport::print_at_leave();
  Trace::finish();
  ::_exit(code);
}

Result<void> check_descriptors(unsigned workers) noexcept {
  // Of each worker: its backend's, and a listening socket. Of all: what loads and serves the first file.
  std::vector<int> held(3 * std::size_t{workers} + 8, -1);
  int error = 0;
  for (int& fd : held) {
    fd = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) continue;
    error = errno;
    break;
  }
  for (const int fd : held) {
    if (fd >= 0) ::close(fd);
  }
  if (error != 0) return fail(error);
  return {};
}

std::string start_failure(const Error& error) {
  if (!error.is(EMFILE)) return "cannot start: " + error.describe();
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return "cannot start: too few open files allowed: ulimit -n is " + std::to_string(limit.rlim_cur) + ", raise it";
}

Result<void> start_helpers(lua::SignalHub& signals, lua::SliceMonitor& slices) {
  const Result<void> started = signals.start();
  return started ? slices.start() : started;
}

std::string version_line(const char* program) {
  std::string line = std::string(program) + " " + EVLUA_VERSION + " (" + LUA_RELEASE + ", ";
  auto chosen = select_backend("");
  line += chosen ? chosen->name : "no backend: " + chosen.error();
  return line + ")";
}

}  // namespace evlua::tools
