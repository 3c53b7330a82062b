// Which atomics concurrent structures are built from. Programs use std::atomic; tests substitute one that hands control
// to a stepper before each access, and so run every interleaving of a small scenario. In builds with EVLUA_DCHECK a
// simulator that runs several workers on one thread may turn to another one before each access, too.
#pragma once

#include <atomic>

#include "core/lockfree/pause.h"

namespace evlua {

/// For what outlives a simulated run: it must not take turns in it, or a run would depend on those before.
struct PlainAtomics {
  template <class T>
  using Atomic = std::atomic<T>;
};

#ifdef NDEBUG
struct StdAtomics {
  template <class T>
  using Atomic = std::atomic<T>;
};
#else
template <class T>
class InterleavedAtomic {
  using Order = std::memory_order;
  static constexpr Order kStrict = std::memory_order_seq_cst;

 public:
  constexpr InterleavedAtomic() noexcept = default;
  constexpr InterleavedAtomic(T value) noexcept : value_(value) {}  // NOLINT: as std::atomic
  InterleavedAtomic(const InterleavedAtomic&) = delete;
  InterleavedAtomic& operator=(const InterleavedAtomic&) = delete;

  T load(Order order = kStrict) const noexcept { return turned(value_).load(order); }
  void store(T value, Order order = kStrict) noexcept { turned(value_).store(value, order); }
  T exchange(T value, Order order = kStrict) noexcept { return turned(value_).exchange(value, order); }
  T fetch_add(T by, Order order = kStrict) noexcept { return turned(value_).fetch_add(by, order); }
  T fetch_sub(T by, Order order = kStrict) noexcept { return turned(value_).fetch_sub(by, order); }
  T fetch_or(T by, Order order = kStrict) noexcept { return turned(value_).fetch_or(by, order); }
  T fetch_and(T by, Order order = kStrict) noexcept { return turned(value_).fetch_and(by, order); }
  template <class... Orders>
  bool compare_exchange_strong(T& expected, T desired, Orders... orders) noexcept {
    return turned(value_).compare_exchange_strong(expected, desired, orders...);
  }
  template <class... Orders>
  bool compare_exchange_weak(T& expected, T desired, Orders... orders) noexcept {
    return turned(value_).compare_exchange_weak(expected, desired, orders...);
  }

 private:
  template <class Value>
  static Value& turned(Value& value) noexcept {
    may_turn();
    return value;
  }
  std::atomic<T> value_{};
};

struct StdAtomics {
  template <class T>
  using Atomic = InterleavedAtomic<T>;
};
#endif

}  // namespace evlua
