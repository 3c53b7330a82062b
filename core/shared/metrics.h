// Counters and histograms that many threads write and few read: each thread writes to a cell of its own. [any thread]
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace evlua {

/// Which cell the calling thread writes to.
std::size_t metric_cell() noexcept;
inline constexpr std::size_t kMetricCells = 16;

class Counter {
 public:
  void add(double amount) noexcept { cells_[metric_cell()].value.fetch_add(amount, std::memory_order_relaxed); }
  double value() const noexcept {
    double sum = 0;
    for (const Cell& cell : cells_) sum += cell.value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct alignas(64) Cell {
    std::atomic<double> value{0};
  };
  std::array<Cell, kMetricCells> cells_;
};

class Histogram {
 public:
  struct Snapshot {
    double sum = 0;
    std::uint64_t count = 0;
    std::vector<std::uint64_t> counts;  ///< per bucket; one more than bounds: the last has none

    /// Estimated as if the observations of a bucket were spread evenly over it; NaN without observations.
    double quantile(double q, const std::vector<double>& bounds) const noexcept;
  };

  /// Upper bounds of the buckets, inclusive. REQUIRES: not empty, rising.
  explicit Histogram(std::vector<double> bounds);

  void observe(double value) noexcept;
  Snapshot snapshot() const;
  const std::vector<double>& bounds() const noexcept { return bounds_; }

 private:
  struct alignas(64) Cell {
    std::atomic<double> sum{0};
    std::unique_ptr<std::atomic<std::uint64_t>[]> counts;
  };

  const std::vector<double> bounds_;
  std::array<Cell, kMetricCells> cells_;
};

}  // namespace evlua
