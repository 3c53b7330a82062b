#include "backends/uring/buf_ring.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "backends/uring/ring.h"
#include "core/check.h"

namespace evlua {
namespace {

constexpr std::size_t kRingBytes = BufferSource::kBufferCount * sizeof(io_uring_buf);

}  // namespace

BufRing::BufRing(std::uint16_t buffers_max) noexcept : in_use_max_(std::min(buffers_max, kBufferCount)) {}

BufRing::~BufRing() {
  if (entries_ != nullptr) ::munmap(entries_, kRingBytes);
}

void BufRing::register_with(Ring& ring) noexcept {
  state_ = State::refused;
  // The kernel wants the ring page-aligned.
  void* memory = ::mmap(nullptr, kRingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  entries_ = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
  registration.ring_entries = kBufferCount;
  registration.bgid = kGroup;
  if (io_uring_register_buf_ring(ring.raw(), &registration, 0) != 0) return;
  state_ = State::registered;
  grow();
}

void BufRing::unregister_from(Ring& ring) noexcept {
  if (state_ == State::registered) io_uring_unregister_buf_ring(ring.raw(), kGroup);
  state_ = State::refused;
}

bool BufRing::grow() noexcept {
  const std::uint16_t until = static_cast<std::uint16_t>(std::min<unsigned>(in_use_ + kStep, in_use_max_));
  if (in_use_ == until) return false;
  while (in_use_ < until) recycle(in_use_++);
  return true;
}

bool BufRing::promise() noexcept {
  while (promised_ >= offered_) {
    if (!reclaim() && !grow()) return false;
  }
  ++promised_;
  return true;
}

void BufRing::recycle(std::uint16_t id) noexcept {
  if (state_ != State::registered) return;  // shutting down
  io_uring_buf& entry = reinterpret_cast<io_uring_buf*>(entries_)[tail_ & (kBufferCount - 1)];
  // Field by field: the last one of entry 0 is the ring's tail.
  entry.addr = reinterpret_cast<std::uintptr_t>(data(id));
  entry.len = kBufferBytes;
  entry.bid = id;
  ++tail_;
  ++offered_;
  // release: the kernel reads the entry after it has read the tail.
  std::atomic_ref<std::uint16_t>(entries_->tail).store(tail_, std::memory_order_release);
}

}  // namespace evlua
