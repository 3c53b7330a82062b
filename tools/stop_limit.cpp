#include "tools/stop_limit.h"

#include <pthread.h>

#include <chrono>
#include <utility>

#include "core/log.h"
#include "core/start_thread.h"
#include "tools/runtime.h"

namespace evlua::tools {

namespace {
constexpr Duration kTooFar = 1000000 * kSecond;  // for the clocks to add it to what they say
}  // namespace

Result<void> StopLimit::start() {
  Result<std::thread> thread = start_thread([this] { watch(); });
  if (!thread) return fail(thread.error());
  thread_ = std::move(*thread);
  return {};
}

StopLimit::~StopLimit() {
  {
    const std::lock_guard guard(lock_);
    ended_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void StopLimit::begin() noexcept {
  {
    const std::lock_guard guard(lock_);
    begun_ = true;
  }
  changed_.notify_one();
}

void StopLimit::watch() noexcept {
  ::pthread_setname_np(::pthread_self(), "evlua-stop");
  std::unique_lock guard(lock_);
  changed_.wait(guard, [this] { return ended_ || (begun_ && limit_ < kTooFar); });
  if (changed_.wait_for(guard, std::chrono::nanoseconds(limit_), [this] { return ended_; })) return;
  Log::error("the server does not stop, still waiting for %s; it leaves", what_.load());
  leave(1);
}

}  // namespace evlua::tools
