// Which of several streams that share a connection is too slow.
//
// Each has a patience of its own, so that one that goes fast does not make up for another one. But all of them together
// need no more than the rate: what a client can send or take, it divides among the streams that it is waited for on.
#pragma once

#include <cstdint>

#include "core/time.h"
#include "net/http/patience.h"

namespace evlua::http {

/// One direction of one stream.
class RateWatch {
 public:
  void begin(Duration full) noexcept {
    patience_.refill(full);
    moved_ = 0;
  }
  void moved(std::uint64_t bytes) noexcept { moved_ += bytes; }
  /// Since the last look.
  bool has_moved() const noexcept { return moved_ != 0; }

  /// Since the last look so much time has passed, in which the client was waited for, on `sharing` streams with this
  /// one; 0: not on this one. True: it is too slow, and what comes then is measured anew.
  bool is_late(Duration passed, std::uint32_t sharing, Duration full, std::uint32_t rate) noexcept;
  /// As is_late, of one whose turn it is not, so that it gets nothing: what moved of all of them counts.
  bool is_late_in_line(Duration passed, std::uint64_t moved, Duration full, std::uint32_t rate) noexcept;

 private:
  bool spend(Duration waited, std::uint64_t moved, Duration full, std::uint32_t rate) noexcept;

  Patience patience_;
  std::uint64_t moved_ = 0;  // since the last look
};

}  // namespace evlua::http
