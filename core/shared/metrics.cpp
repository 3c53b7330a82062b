#include "core/shared/metrics.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace evlua {

std::size_t metric_cell() noexcept {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed) % kMetricCells;
  return mine;
}

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
  for (Cell& cell : cells_) cell.counts = std::make_unique<std::atomic<std::uint64_t>[]>(bounds_.size() + 1);
}

void Histogram::observe(double value) noexcept {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  Cell& cell = cells_[metric_cell()];
  cell.counts[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  cell.sum.fetch_add(value, std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot all;
  all.counts.resize(bounds_.size() + 1);
  for (const Cell& cell : cells_) {
    all.sum += cell.sum.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < all.counts.size(); ++i) {
      const std::uint64_t count = cell.counts[i].load(std::memory_order_relaxed);
      all.counts[i] += count;
      all.count += count;
    }
  }
  return all;
}

double Histogram::Snapshot::quantile(double q, const std::vector<double>& bounds) const noexcept {
  if (count == 0) return std::numeric_limits<double>::quiet_NaN();
  const double rank = q * static_cast<double>(count);
  double below = 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here > 0 && below + here >= rank) {
      const double low = i == 0 ? std::min(0.0, bounds[0]) : bounds[i - 1];
      return low + (bounds[i] - low) * std::max(0.0, rank - below) / here;
    }
    below += here;
  }
  return bounds.back();  // no more is known of what lies above
}

}  // namespace evlua
