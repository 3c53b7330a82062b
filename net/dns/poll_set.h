// Descriptors of a library that does its own I/O, watched as one: the set has a descriptor of its own, which is
// readable (a poll operation tells when) while any of them is ready. The backend never sees those in the set, so the
// library may close them when it likes.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace evlua::net {

class PollSet {
 public:
  static constexpr int kReadyMax = 16;
  struct Ready {
    int fd;
    bool readable;
    bool writable;
  };

  PollSet() = default;
  PollSet(const PollSet&) = delete;
  PollSet& operator=(const PollSet&) = delete;
  /// REQUIRES: no operation is in flight on it. Closes in the background. [worker]
  ~PollSet();

  Result<void> open() noexcept;
  int fd() const noexcept { return fd_; }

  /// Watches for that, and for nothing else; with neither, `fd` leaves the set. A lack of memory goes unnoticed: time
  /// limits must make up for it.
  void watch(int fd, bool readable, bool writable) noexcept;

  /// Those that are ready now: their number. One that has failed is both readable and writable. Waits for nothing.
  int ready(Ready (&out)[kReadyMax]) const noexcept;

 private:
  int fd_ = -1;
};

}  // namespace evlua::net
