// LockTable: locks that exist while somebody holds them, by name. Waiters get them in the order they came.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "core/event.h"
#include "core/intrusive.h"
#include "core/lockfree/futex_mutex.h"
#include "core/task.h"

namespace evlua {

/// [any thread]
class LockTable {
 public:
  /// False when somebody has it.
  bool try_lock(std::string_view name);
  /// Waits for its turn. ETIMEDOUT or ECANCELED: the lock was not taken.
  Task<Result<void>> lock(std::string name, Instant deadline);
  /// REQUIRES: the caller has it.
  void unlock(std::string_view name);
  std::size_t size();

 private:
  struct Waiter : ListNode {
    Event granted;
    bool owns = false;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const noexcept;
  };

  /// True: it was free and is the caller's. Else `waiter` is in its queue.
  bool take_or_queue(const std::string& name, Waiter& waiter);
  /// The waiter leaves the queue. True: it has got the lock meanwhile.
  bool leave(Waiter& waiter);

  FutexMutex mutex_;
  std::unordered_map<std::string, List<Waiter>, Hash, std::equal_to<>> held_;
};

}  // namespace evlua
