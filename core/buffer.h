// Receive buffers that a backend lends out: a fixed set per worker, so that a connection that only waits owns none.
//
// A source belongs to one thread, which lends. A lease may be carried to any thread and dropped there; its buffer then
// waits in a lock-free list until the owner reclaims it. Every lease must be gone before its source is.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "core/op.h"

namespace evlua {

/// Owns the buffers of one backend. The owner thread lends; any thread may give back.
class BufferSource {
 public:
  static constexpr std::uint32_t kBufferBytes = 8192;
  static constexpr std::uint16_t kBufferCount = 256;  // a power of two: the kernel's ring wants one

  BufferSource();
  virtual ~BufferSource();
  BufferSource(const BufferSource&) = delete;
  BufferSource& operator=(const BufferSource&) = delete;

  std::byte* data(std::uint16_t id) noexcept { return memory_ + std::size_t{id} * kBufferBytes; }

  /// Gives a buffer back. [any thread]
  void release(std::uint16_t id) noexcept;

  /// Takes in what other threads gave back; true when there was anything. [owner]
  bool reclaim() noexcept;

  /// Binds the calling thread as the owner. Called once, before the first buffer is lent.
  void bind_to_this_thread() noexcept;

  /// Buffers now lent out. [owner]
  std::uint16_t lent() const noexcept { return lent_; }

 protected:
  /// Makes `id` available again. [owner]
  virtual void recycle(std::uint16_t id) noexcept = 0;

  /// The backend lent a buffer. [owner]
  void note_lent() noexcept { ++lent_; }

 private:
  static constexpr std::uint16_t kNone = 0xffff;

  std::byte* memory_;
  const void* owner_ = nullptr;
  std::uint16_t lent_ = 0;
  std::atomic<std::uint16_t> returned_{kNone};  // newest id given back by another thread
  std::unique_ptr<std::uint16_t[]> next_;       // links of that list
};

/// A buffer on loan, or one from the heap when the loan stock was empty. Move-only; gives itself back.
class Lease {
 public:
  Lease() = default;
  Lease(BufferSource* source, std::uint16_t id, std::byte* data, std::uint32_t size) noexcept
      : source_(source), data_(data), size_(size), id_(id) {}
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { reset(); }

  /// Takes over the buffer that a finished recv names, lent by `source` or from malloc (kHeapBuffer). Empty, with the
  /// buffer given back, when nothing was received; empty too when the caller's own memory was used.
  static Lease from(Op& op, BufferSource& source) noexcept;

  /// A copy of both, one behind the other, on the heap. Empty when memory is short.
  static Lease joined(std::string_view first, std::string_view second) noexcept;

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const char* chars() const noexcept { return reinterpret_cast<const char*>(data_); }
  std::uint32_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  void reset() noexcept;

 private:
  BufferSource* source_ = nullptr;  // null with data: from malloc
  std::byte* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint16_t id_ = kNoBuffer;
};

}  // namespace evlua
