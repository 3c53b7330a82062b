// Which atomics a lock-free structure is built from. Programs use std::atomic; tests substitute one that hands control
// to a stepper before each access, and so run every interleaving of a small scenario.
#pragma once

#include <atomic>

namespace evlua {

struct StdAtomics {
  template <class T>
  using Atomic = std::atomic<T>;
};

}  // namespace evlua
