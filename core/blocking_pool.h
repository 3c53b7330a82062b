// Threads for system calls that block: file operations without io_uring, name resolution, directory listing.
//
// Threads start on demand up to a limit and end after 10 s without work. Jobs of the slow class (resolvers, opens of
// FIFOs) hold at most half of the threads, so that they cannot starve the quick ones.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/intrusive.h"
#include "core/runnable.h"
#include "core/time.h"

namespace evlua {

/// A blocking piece of work. `run` is executed on a pool thread and must arrange for its owner to hear of the end
/// (usually by posting the job somewhere) as its very last step: the pool does not touch the job afterwards.
/// The owner keeps the job alive until then.
struct PoolJob : Runnable {
  enum class Class : std::uint8_t { quick, slow };

  Class job_class = Class::quick;
};

class BlockingPool {
 public:
  struct Options {
    std::size_t threads_max = 64;
    Duration keep_alive = 10 * kSecond;
  };

  BlockingPool();
  explicit BlockingPool(Options options);
  /// Waits for the jobs that are queued or still run, interrupting them; gives up after a second. Threads that hang
  /// even then are left behind, and what is queued is not carried out.
  ~BlockingPool();

  /// Queues the job; a thread is started if none is idle. When the system gives no thread at all, the job is carried
  /// out in here. [any thread]
  void submit(PoolJob& job) noexcept;

  /// Takes a queued job back: true, and `run` will never be called. False when it runs already or has ended. [any
  /// thread]
  [[nodiscard]] bool try_withdraw(PoolJob& job) noexcept;

  /// Asks the system call of a running job to return EINTR, by a signal to its thread. A call that has not begun yet
  /// misses it, so ask again until the job ends. Harmless for a job that is not running. [any thread]
  void interrupt(PoolJob& job) noexcept;

  std::size_t threads() const noexcept;
  std::size_t queued() const noexcept;

 private:
  struct Shared;

  // Shared with the threads, so that one that hangs in a system call may outlive the pool.
  std::shared_ptr<Shared> shared_;
};

}  // namespace evlua
