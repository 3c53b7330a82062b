// The context that new connections begin with; whoever reloads certificates puts another one in its place.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "core/lockfree/spin_lock.h"
#include "net/tls/context.h"

namespace evlua::tls {

/// Any thread.
class ContextSlot {
 public:
  explicit ContextSlot(std::shared_ptr<const ServerContext> context) noexcept : context_(std::move(context)) {}

  std::shared_ptr<const ServerContext> get() noexcept {
    const std::lock_guard guard(lock_);
    return context_;
  }
  void set(std::shared_ptr<const ServerContext> context) noexcept {
    const std::lock_guard guard(lock_);
    context_.swap(context);  // what was there goes outside of the lock, with the parameter
  }

 private:
  SpinLock lock_;
  std::shared_ptr<const ServerContext> context_;
};

}  // namespace evlua::tls
