// The returned list: a foreign thread links its id in front of `returned_` with a compare-exchange, the owner takes
// the whole list with one exchange. Nobody ever removes a single id, so the head cannot come back with another tail
// behind it (no ABA), and 16 bits are enough for it.
#include "core/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/check.h"

namespace evlua {
namespace {

constexpr std::size_t kMappingBytes = std::size_t{BufferSource::kBufferBytes} * BufferSource::kBufferCount;

/// Its address tells threads apart without a system call.
thread_local char this_thread_mark;

}  // namespace

BufferSource::BufferSource() : next_(std::make_unique<std::uint16_t[]>(kBufferCount)) {
  // A mapping, not the heap: a buffer that was never lent costs address space only.
  void* memory = ::mmap(nullptr, kMappingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EVLUA_CHECK(memory != MAP_FAILED);
  // A huge page would make the first byte cost all buffers at once. Kernels without huge pages refuse; no matter.
  static_cast<void>(::madvise(memory, kMappingBytes, MADV_NOHUGEPAGE));
  memory_ = static_cast<std::byte*>(memory);
}

BufferSource::~BufferSource() { ::munmap(memory_, kMappingBytes); }

void BufferSource::bind_to_this_thread() noexcept { owner_ = &this_thread_mark; }

void BufferSource::release(std::uint16_t id) noexcept {
  EVLUA_DCHECK(id < kBufferCount);
  if (owner_ == &this_thread_mark) {
    --lent_;
    recycle(id);
    return;
  }
  std::uint16_t head = returned_.load(std::memory_order_relaxed);
  do {
    next_[id] = head;
    // release: pairs with the exchange in reclaim; the owner sees the link, and our reads of the buffer are over.
  } while (!returned_.compare_exchange_weak(head, id, std::memory_order_release, std::memory_order_relaxed));
}

bool BufferSource::reclaim() noexcept {
  if (returned_.load(std::memory_order_relaxed) == kNone) return false;
  std::uint16_t id = returned_.exchange(kNone, std::memory_order_acquire);  // pairs with release()
  while (id != kNone) {
    // Read first: once recycled, the id may be lent and given back by another thread.
    const std::uint16_t following = next_[id];
    --lent_;
    recycle(id);
    id = following;
  }
  return true;
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    reset();
    source_ = std::exchange(other.source_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    id_ = std::exchange(other.id_, kNoBuffer);
  }
  return *this;
}

Lease Lease::from(Op& op, BufferSource& source) noexcept {
  const std::uint16_t id = std::exchange(op.buffer, kNoBuffer);
  if (id == kNoBuffer) return {};
  const std::uint32_t size = op.res > 0 ? static_cast<std::uint32_t>(op.res) : 0;
  // Made even when nothing was received: leaving the scope below then gives the buffer back.
  Lease lease = id == kHeapBuffer ? Lease(nullptr, id, static_cast<std::byte*>(op.args.recv.data), size)
                                  : Lease(&source, id, source.data(id), size);
  if (size == 0) lease.reset();
  return lease;
}

Lease Lease::joined(std::string_view first, std::string_view second) noexcept {
  const std::size_t size = first.size() + second.size();
  auto* memory = static_cast<char*>(std::malloc(size));
  if (memory == nullptr) return {};
  std::copy(second.begin(), second.end(), std::copy(first.begin(), first.end(), memory));
  return {nullptr, kHeapBuffer, reinterpret_cast<std::byte*>(memory), static_cast<std::uint32_t>(size)};
}

void Lease::reset() noexcept {
  if (source_ != nullptr) {
    source_->release(id_);
  } else {
    std::free(data_);
  }
  source_ = nullptr;
  data_ = nullptr;
  size_ = 0;
  id_ = kNoBuffer;
}

}  // namespace evlua
