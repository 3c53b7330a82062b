// One io_uring instance: its two queues, how it is set up, when the kernel is entered, and reaping in batches.
//
// Owner thread only, the thread that called `open`: a ring with one issuer refuses everybody else (EEXIST).
// The ring knows nothing of operations; whoever fills an entry chooses its user_data.
#pragma once

#include <liburing.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "core/time.h"

namespace evlua {

class Ring {
 public:
  struct Sizes {
    unsigned submissions = 256;
    unsigned completions = 4096;
  };

  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() { close(); }

  /// Sets the ring up for the calling thread. 0, or a negated errno.
  int open(Sizes sizes) noexcept;
  void close() noexcept;
  bool is_open() const noexcept { return ring_.ring_fd >= 0; }

  int fd() const noexcept { return ring_.ring_fd; }
  io_uring* raw() noexcept { return &ring_; }
  unsigned features() const noexcept { return ring_.features; }

  /// How waits are made; found out by the feature probe.
  void set_wait_style(bool absolute_timer, bool no_iowait) noexcept;

  /// A zeroed entry to fill, or null when the queue is full. Nothing reaches the kernel before the next entering.
  io_uring_sqe* next_sqe() noexcept {
    if (sq_tail_ - sq_head_ >= sq_entries_) return nullptr;
    io_uring_sqe* sqe = sqes_ + (sq_tail_++ & sq_mask_);
    std::memset(sqe, 0, sizeof(*sqe));
    return sqe;
  }

  /// Entries filled and not yet taken by the kernel.
  unsigned queued() const noexcept { return sq_tail_ - sq_head_; }

  /// Entries that can be filled before the next entering. What belongs together is begun only if it all fits.
  unsigned room() const noexcept { return sq_entries_ - queued(); }

  bool has_completions() const noexcept { return load(cq_khead_) != load(cq_ktail_); }

  /// There is a reason to enter: entries to hand over, deferred work of the kernel, or completions it could not post.
  bool wants_enter() const noexcept {
    return queued() != 0 || (load(sq_kflags_) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }

  /// Hands entries over and lets the kernel post what is ready, without sleeping. The count taken, or a negated errno.
  int flush() noexcept { return enter(0, nullptr, 0); }

  /// As flush, and sleeps until there is a completion or `deadline` passes (-ETIME), all in one system call.
  int wait(Instant deadline) noexcept;

  /// Calls `visit(const io_uring_cqe&)` for each completion there is. Returns their number.
  template <class Visit>
  unsigned reap(Visit&& visit) noexcept {
    unsigned head = load(cq_khead_);
    // acquire: pairs with the kernel's release of the tail; the entries before it are complete.
    const unsigned tail = std::atomic_ref<unsigned>(*cq_ktail_).load(std::memory_order_acquire);
    const unsigned count = tail - head;
    for (; head != tail; ++head) visit(static_cast<const io_uring_cqe&>(cqes_[head & cq_mask_]));
    // release: the kernel may reuse the entries only after we have read them.
    if (count != 0) std::atomic_ref<unsigned>(*cq_khead_).store(tail, std::memory_order_release);
    return count;
  }

  /// System calls made, for tests and statistics.
  std::uint64_t enters() const noexcept { return enters_; }

 private:
  static unsigned load(unsigned* shared) noexcept {
    return std::atomic_ref<unsigned>(*shared).load(std::memory_order_relaxed);
  }
  int enter(unsigned completions_min, io_uring_getevents_arg* argument, unsigned flags) noexcept;

  // What the two hot paths touch, copied out of the library's structure.
  io_uring_sqe* sqes_ = nullptr;
  unsigned sq_head_ = 0;  // as of the last entering; the kernel moves it at no other time
  unsigned sq_tail_ = 0;  // ours; published by enter
  unsigned sq_entries_ = 0;
  unsigned sq_mask_ = 0;
  unsigned* sq_kflags_ = nullptr;
  io_uring_cqe* cqes_ = nullptr;
  unsigned* cq_khead_ = nullptr;
  unsigned* cq_ktail_ = nullptr;
  unsigned cq_mask_ = 0;
  unsigned enter_flags_ = IORING_ENTER_GETEVENTS;
  unsigned wait_flags_ = 0;
  bool absolute_timer_ = false;
  std::uint64_t enters_ = 0;
  io_uring ring_ = closed();

  static io_uring closed() noexcept {
    io_uring ring{};
    ring.ring_fd = ring.enter_ring_fd = -1;
    return ring;
  }
};

}  // namespace evlua
