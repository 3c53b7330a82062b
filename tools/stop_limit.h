// Stopping ends, whatever is stuck: a thread of its own leaves the process when the time for it is over. What can be
// ended in an orderly way has been by then; this is for C code that does not return, a thread that a file blocks, a
// task that must not be interrupted.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/time.h"

namespace evlua::tools {

class StopLimit {
 public:
  explicit StopLimit(Duration limit) noexcept : limit_(limit) {}
  /// It has stopped in time.
  ~StopLimit();
  StopLimit(const StopLimit&) = delete;
  StopLimit& operator=(const StopLimit&) = delete;

  /// Starts the thread. Once.
  Result<void> start();
  /// From now on the time runs; only the first call counts. [any thread]
  void begin() noexcept;
  /// What is waited for now, as it is told. It lives for ever. [any thread]
  void waits_for(const char* what) noexcept { what_.store(what); }

 private:
  void watch() noexcept;

  const Duration limit_;
  std::atomic<const char*> what_{"requests"};
  std::mutex lock_;
  std::condition_variable changed_;
  bool begun_ = false;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace evlua::tools
