// The descriptors on which the backend receives ahead; see ahead.cpp. For the files of this folder only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <utility>
#include <vector>

#include "core/intrusive.h"
#include "core/op.h"

namespace evlua::uring {

/// One multishot receive. While it is armed the kernel names it in completions, so it lives until the last of them.
struct AheadReceiver : ListNode {
  Op* waiting = nullptr;   ///< armed: the recv that gets what comes, or a recv_rest that waits for the end
  void* stored = nullptr;  ///< from malloc: what came while no recv waited
  std::uint32_t stored_bytes = 0;
  std::int32_t failure = 0;  ///< an error that came likewise, and stays
  int fd = -1;
  bool armed = false;     ///< in the kernel, or in an entry the kernel takes at the next entering
  bool stopping = false;  ///< armed, and its end has been asked for
  bool orphaned = false;  ///< its descriptor was given up: nobody wants what still comes

  AheadReceiver() = default;
  ~AheadReceiver() { std::free(stored); }
};

/// Owns the receivers, by descriptor.
class AheadTable {
 public:
  AheadTable() = default;
  AheadTable(const AheadTable&) = delete;
  AheadTable& operator=(const AheadTable&) = delete;
  ~AheadTable() {
    for (AheadReceiver* receiver : receivers_) delete receiver;
  }

  AheadReceiver* find(int fd) const noexcept {
    const auto index = static_cast<std::size_t>(fd);
    return index < receivers_.size() ? receivers_[index] : nullptr;
  }

  /// Null when memory is short.
  AheadReceiver* find_or_add(int fd) noexcept {
    if (AheadReceiver* known = find(fd)) return known;
    if (fd < 0) return nullptr;
    try {
      const auto index = static_cast<std::size_t>(fd);
      if (index >= receivers_.size()) receivers_.resize(index + 1);
      receivers_[index] = new AheadReceiver;
      receivers_[index]->fd = fd;
      return receivers_[index];
    } catch (const std::exception&) {
      return nullptr;
    }
  }

  /// The caller owns the result.
  AheadReceiver* remove(int fd) noexcept {
    return find(fd) == nullptr ? nullptr : std::exchange(receivers_[static_cast<std::size_t>(fd)], nullptr);
  }

 private:
  std::vector<AheadReceiver*> receivers_;
};

}  // namespace evlua::uring
