// The simulator's chance: small, fast, and the same numbers everywhere, which the standard distributions do not
// promise.
#pragma once

#include <cstdint>

namespace evlua {

class SimRandom {
 public:
  explicit SimRandom(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {  // splitmix64
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  /// 0 ... limit-1. REQUIRES: limit > 0.
  std::uint64_t below(std::uint64_t limit) noexcept { return next() % limit; }

  /// True with this probability.
  bool chance(double probability) noexcept {
    return probability > 0 && static_cast<double>(next() >> 11) * 0x1p-53 < probability;
  }

 private:
  std::uint64_t state_;
};

}  // namespace evlua
