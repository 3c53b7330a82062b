// Lets so many in at a time; the others wait in line.
#pragma once

#include <cstddef>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/lockfree/spin_lock.h"
#include "core/task.h"

namespace evlua::net {

class Gate {
 public:
  explicit Gate(std::size_t most) noexcept : free_(most) {}

  /// After it has succeeded, `leave` must be called. [any thread]
  Task<Result<void>> enter(Instant deadline);
  void leave() noexcept;

 private:
  struct Waiter : ListNode {
    Event admitted;
    bool is_admitted = false;
  };

  SpinLock lock_;
  std::size_t free_;
  List<Waiter> waiters_;
};

}  // namespace evlua::net
