// Seeds of hashes of what comes from outside: who knows them makes up keys that all collide.
#pragma once

#include <cstdint>
#include <random>

namespace evlua {

inline std::uint64_t random_seed() {
  std::random_device source;
  return (std::uint64_t{source()} << 32) | source();
}

}  // namespace evlua
