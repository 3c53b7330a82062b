// What a readiness backend needs from the system: tell when a descriptor is ready, sleep, be woken.
#pragma once

#include <cstdint>

#include "core/time.h"

namespace evlua {

enum class Direction : std::uint8_t { reading, writing };

/// Owner thread only, except wake.
class Poller {
 public:
  /// Told about each ready (or failed) descriptor and direction, from within `wait`. May arm and disarm.
  class Listener {
   public:
    virtual void on_ready(int fd, Direction direction) noexcept = 0;

   protected:
    ~Listener() = default;
  };

  virtual ~Poller() = default;

  /// Watches until disarmed, level-triggered. Nothing happens when it does so already.
  virtual void arm(int fd, Direction direction) noexcept = 0;
  virtual void disarm(int fd, Direction direction) noexcept = 0;
  /// The number is about to be closed, or has been closed by another and may be a new file: whatever is remembered
  /// about it is wrong.
  virtual void forget(int fd) noexcept = 0;

  /// Sleeps until something is ready, `timeout` nanoseconds have passed (kNever: no limit) or wake was called. It may
  /// return early.
  virtual void wait(Listener& listener, Duration timeout) noexcept = 0;

  /// Ends the current or the next wait. [any thread]
  virtual void wake() noexcept = 0;
};

}  // namespace evlua
