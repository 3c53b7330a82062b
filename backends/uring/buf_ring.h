// Receive buffers handed to the kernel as a provided-buffer ring: a receive that waits holds none, and the kernel picks
// one when data is there.
//
// Owner thread only, except what BufferSource opens to all. Buffers come into use in steps, on demand: with few
// connections busy at once only a few circulate, and they stay in the cache.
#pragma once

#include <liburing.h>

#include <cstdint>

#include "core/buffer.h"
#include "core/check.h"

namespace evlua {

class Ring;

class BufRing final : public BufferSource {
 public:
  static constexpr std::uint16_t kGroup = 0;
  static constexpr std::uint16_t kStep = 32;

  explicit BufRing(std::uint16_t buffers_max) noexcept;
  ~BufRing() override;

  /// Registers the ring with the kernel at the first call. False: this kernel will not have it; use the heap.
  bool ready(Ring& ring) noexcept {
    if (state_ == State::unregistered) [[unlikely]]
      register_with(ring);
    return state_ == State::registered;
  }

  /// The kernel took buffer `id` for a completion.
  void take(std::uint16_t id) noexcept {
    EVLUA_DCHECK(id < in_use_);
    --offered_;
    note_lent();
  }

  /// The kernel found no buffer for a receive: is there one for another try, if need be one not used before? False
  /// when all are lent. Each true promises a buffer to that receive until `forget_promises`.
  bool promise() noexcept;

  /// Completions of receives that were tried again are about to be seen.
  void forget_promises() noexcept { promised_ = 0; }

  /// Must precede the closing of `ring`.
  void unregister_from(Ring& ring) noexcept;

 protected:
  void recycle(std::uint16_t id) noexcept override;

 private:
  enum class State : std::uint8_t { unregistered, registered, refused };

  void register_with(Ring& ring) noexcept;
  bool grow() noexcept;

  io_uring_buf_ring* entries_ = nullptr;  // shared with the kernel; its own mapping
  State state_ = State::unregistered;
  std::uint16_t tail_ = 0;
  std::uint16_t in_use_ = 0;   // ids below this one circulate
  std::uint16_t offered_ = 0;  // in the ring, as far as completions seen tell
  std::uint16_t promised_ = 0;
  std::uint16_t in_use_max_;
};

}  // namespace evlua
