#include "tools/stats_report.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/decimal.h"
#include "core/lockfree/futex_mutex.h"
#include "lua/bytecode.h"
#include "lua/slice.h"
#include "lua/vm.h"

namespace evlua::tools {

namespace {

constexpr std::size_t kColumns = 8;
using Row = std::array<std::string, kColumns>;

struct Reported {
  FutexMutex lock;
  Scheduler* scheduler = nullptr;
};

/// Never destroyed: threads may end after main.
Reported& reported() {
  static auto& only = *new Reported;
  return only;
}

Row row_of(const Worker& worker) {
  const WorkerCounters& counters = worker.counters();
  const auto text = [](const std::atomic<std::uint64_t>& counter) { return std::to_string(counter.load()); };
  return {"worker " + std::to_string(worker.index()),
          text(counters.tasks_run),
          text(counters.tasks_stolen),
          text(counters.operations),
          text(counters.parks),
          text(counters.overruns),
          std::to_string(counters.longest_queue.value()),
          fixed_decimal(static_cast<double>(counters.longest_poll_gap.value()) / 1e6, 3) + " ms"};
}

/// Each column as wide as its widest cell; what the rows are stands on the left, what they have on the right.
std::string table(const std::vector<Row>& rows) {
  std::array<std::size_t, kColumns> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    text += row[0] + std::string(widths[0] - row[0].size(), ' ');
    for (std::size_t i = 1; i < kColumns; ++i) text += "  " + std::string(widths[i] - row[i].size(), ' ') + row[i];
    text += '\n';
  }
  return text;
}

std::string mebibytes(std::uint64_t bytes) { return fixed_decimal(static_cast<double>(bytes) / (1 << 20), 1) + " MiB"; }

std::string lua_lines() {
  const lua::Vm::Totals totals = lua::Vm::totals();
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const lua::CodeCounts code = lua::code_counts();
  const auto text = [](std::uint64_t count) { return std::to_string(count); };
  return "Lua states: " + text(totals.made) + " made, at most " + text(totals.most) + " at once\n" +
         "Lua files: " + text(code.compiled) + " compiled, " + text(code.reused) +
         " times loaded as compiled before\n" + "tasks: " + text(totals.tasks) + " begun, at most " +
         text(totals.most_tasks) + " at once in one state\n" + "memory: at most " + mebibytes(totals.most_memory) +
         " in one state, " + mebibytes(std::uint64_t(used.ru_maxrss) * 1024) + " in the process\n" +
         "time slices cut short: " + text(lua::Slice::cut_short()) + '\n';
}

void print_of(Scheduler& scheduler) {
  std::vector<Row> rows = {
      {"", "tasks run", "stolen", "operations", "parks", "overruns", "longest queue", "longest without a poll"}};
  for (unsigned index = 0; index < scheduler.worker_count(); ++index) rows.push_back(row_of(scheduler.worker(index)));
  std::fputs((table(rows) + lua_lines()).c_str(), stderr);
}

}  // namespace

StatsReport::StatsReport(Scheduler& scheduler, bool wanted) noexcept {
  const std::lock_guard guard(reported().lock);
  reported().scheduler = wanted ? &scheduler : nullptr;
}

StatsReport::~StatsReport() {
  const std::lock_guard guard(reported().lock);
  reported().scheduler = nullptr;
}

void StatsReport::print() {
  const std::lock_guard guard(reported().lock);
  if (Scheduler* scheduler = std::exchange(reported().scheduler, nullptr)) print_of(*scheduler);
}

void StatsReport::print_at_leave() {
  reported().lock.lock();
  if (Scheduler* scheduler = std::exchange(reported().scheduler, nullptr)) print_of(*scheduler);
}

}  // namespace evlua::tools
