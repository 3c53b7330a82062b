// What the responses of one HTTP/2 connection hold in memory until its client takes them, all streams together: a
// client may leave many windows shut. [any thread]
#pragma once

#include <atomic>
#include <cstddef>

namespace evlua::http {

class HeldOutput {
 public:
  /// What a stream may have in any case, and what does not count.
  static constexpr std::size_t kFree = 4 * 1024;

  /// One place where bytes wait. Its owner, or whoever has the owner's lock, calls.
  class Share {
   public:
    void set(HeldOutput& all, std::size_t bytes) noexcept {
      const std::size_t counted = bytes > kFree ? bytes : 0;
      if (counted == bytes_) return;
      all.bytes_.fetch_add(counted - bytes_, std::memory_order_relaxed);  // wraps around when it is less
      bytes_ = counted;
    }

   private:
    std::size_t bytes_ = 0;
  };

  std::size_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::size_t> bytes_{0};
};

}  // namespace evlua::http
