#include "tools/figures.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "core/whole_file.h"

namespace evlua::tools {

WorkerFigures WorkerFigures::of(const http::StationCounters& station, const WorkerCounters& worker) noexcept {
  WorkerFigures figures;
  figures.accepted = station.accepted.value();
  figures.closed = station.closed.value();
  figures.accept_failures = station.accept_failures.value();
  figures.turned_away = station.turned_away.value();
  figures.full = station.full.value();
  figures.handshakes = station.handshakes.value();
  figures.handshake_failures = station.handshake_failures.value();
  figures.streams = station.streams.value();
  figures.bytes_in = station.bytes_in.value();
  figures.bytes_out = station.bytes_out.value();
  const auto value = [](const OwnCounter& counter) { return counter.value(); };
  std::transform(station.statuses.begin(), station.statuses.end(), figures.statuses.begin(), value);
  std::transform(station.durations.begin(), station.durations.end(), figures.durations.begin(), value);
  figures.refused = station.refused.value();
  figures.aborted = station.aborted.value();
  figures.duration_sum = station.duration_sum.value();
  figures.tasks_run = worker.tasks_run.load(std::memory_order_relaxed);
  figures.tasks_stolen = worker.tasks_stolen.load(std::memory_order_relaxed);
  figures.operations = worker.operations.load(std::memory_order_relaxed);
  figures.parks = worker.parks.load(std::memory_order_relaxed);
  figures.overruns = worker.overruns.load(std::memory_order_relaxed);
  figures.longest_poll_gap = worker.longest_poll_gap.value();
  return figures;
}

void WorkerFigures::add(const WorkerFigures& other) noexcept {
  accepted += other.accepted;
  closed += other.closed;
  accept_failures += other.accept_failures;
  turned_away += other.turned_away;
  full += other.full;
  handshakes += other.handshakes;
  handshake_failures += other.handshake_failures;
  streams += other.streams;
  bytes_in += other.bytes_in;
  bytes_out += other.bytes_out;
  for (std::size_t i = 0; i < statuses.size(); ++i) statuses[i] += other.statuses[i];
  for (std::size_t i = 0; i < durations.size(); ++i) durations[i] += other.durations[i];
  refused += other.refused;
  aborted += other.aborted;
  duration_sum += other.duration_sum;
  tasks_run += other.tasks_run;
  tasks_stolen += other.tasks_stolen;
  operations += other.operations;
  parks += other.parks;
  overruns += other.overruns;
  longest_poll_gap = std::max(longest_poll_gap, other.longest_poll_gap);
}

std::uint64_t WorkerFigures::requests() const noexcept {
  return std::accumulate(statuses.begin(), statuses.end(), std::uint64_t{0});
}

WorkerFigures Figures::sum() const noexcept {
  WorkerFigures all;
  for (const WorkerFigures& worker : workers) all.add(worker);
  return all;
}

ProcessFigures process_figures() {
  ProcessFigures figures;
  std::uint64_t whole_pages = 0;
  std::uint64_t resident_pages = 0;
  std::istringstream pages(read_whole_file("/proc/self/statm").value_or(""));
  if (pages >> whole_pages >> resident_pages) {
    figures.resident_bytes = resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  if (DIR* folder = ::opendir("/proc/self/fd")) {
    while (const dirent* entry = ::readdir(folder)) figures.descriptors += entry->d_name[0] != '.' ? 1 : 0;
    ::closedir(folder);
    --figures.descriptors;  // the folder itself
  }
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  figures.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
  return figures;
}

}  // namespace evlua::tools
