// What the responses of one HTTP/2 connection hold in memory for a client that does not take them, all streams
// together: it may leave many windows shut. What is sent as it is written does not count.
//
// [any thread]
#pragma once

#include <atomic>
#include <cstddef>

namespace evlua::http {

class HeldOutput {
 public:
  /// What a stream may have in any case, and what does not count.
  static constexpr std::size_t kFree = 4 * 1024;
  /// What all streams may hold, in `Limits::output_bytes`.
  static constexpr std::size_t kBuffers = 8;

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
  /// There is room for so many bytes more.
  bool fits(std::size_t more, std::size_t output_bytes) const noexcept {
    return bytes() + more <= kBuffers * output_bytes;
  }

 private:
  std::atomic<std::size_t> bytes_{0};
};

}  // namespace evlua::http
