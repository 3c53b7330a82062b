// Entering: with DEFER_TASKRUN the kernel posts completions only while the owner is inside io_uring_enter with
// GETEVENTS, so every entering carries that flag, and one is due whenever the kernel has raised SQ_TASKRUN.
#include "backends/uring/ring.h"

#include <csignal>

#include "backends/uring/features.h"

namespace evlua {
namespace {

constexpr unsigned kSetupFlags =
    // Only the owner submits: the kernel can skip locking, and DEFER_TASKRUN asks for it.
    IORING_SETUP_SINGLE_ISSUER |
    // Completion work runs when the owner enters for events, in one batch, and never interrupts it in between.
    IORING_SETUP_DEFER_TASKRUN |
    // The kernel says in shared memory that such work waits, so a turn without work costs no system call.
    IORING_SETUP_TASKRUN_FLAG |
    // One bad entry fails by its own completion and does not hold back those behind it.
    IORING_SETUP_SUBMIT_ALL |
    // Sizes above the kernel's limits become the limits.
    IORING_SETUP_CLAMP |
    // The completion queue has its own size: waiting receives outnumber what one turn submits.
    IORING_SETUP_CQSIZE;

}  // namespace

int Ring::open(Sizes sizes) noexcept {
  io_uring_params params{};
  params.flags = kSetupFlags;
  params.cq_entries = sizes.completions;
  const int result = io_uring_queue_init_params(sizes.submissions, &ring_, &params);
  if (result < 0) {
    ring_ = closed();
    return result;
  }
  // The registered descriptor saves the kernel a reference count per entering. Refused under a tight limit: no matter.
  if (io_uring_register_ring_fd(&ring_) == 1) enter_flags_ |= IORING_ENTER_REGISTERED_RING;

  sqes_ = ring_.sq.sqes;
  sq_entries_ = ring_.sq.ring_entries;
  sq_mask_ = ring_.sq.ring_mask;
  sq_kflags_ = ring_.sq.kflags;
  cqes_ = ring_.cq.cqes;
  cq_khead_ = ring_.cq.khead;
  cq_ktail_ = ring_.cq.ktail;
  cq_mask_ = ring_.cq.ring_mask;
  // Slot i names entry i, for good: the indirection is of no use to us.
  for (unsigned i = 0; i < sq_entries_; ++i) ring_.sq.array[i] = i;
  return 0;
}

void Ring::close() noexcept {
  if (!is_open()) return;
  io_uring_queue_exit(&ring_);
  ring_ = closed();
  sq_entries_ = sq_head_ = sq_tail_ = 0;
  enter_flags_ = IORING_ENTER_GETEVENTS;
}

void Ring::set_wait_style(bool absolute_timer, bool no_iowait) noexcept {
  absolute_timer_ = absolute_timer;
  wait_flags_ = no_iowait ? kEnterNoIowait : 0;
}

int Ring::wait(Instant deadline) noexcept {
  if (deadline == kNever) return enter(1, nullptr, wait_flags_);
  if (!absolute_timer_) {
    const Instant now = monotonic_now();
    deadline = deadline > now ? deadline - now : 0;
  }
  if (deadline < 0) deadline = 0;
  __kernel_timespec limit{};
  limit.tv_sec = deadline / kSecond;
  limit.tv_nsec = deadline % kSecond;
  io_uring_getevents_arg argument{};
  argument.sigmask_sz = _NSIG / 8;
  argument.ts = reinterpret_cast<std::uintptr_t>(&limit);
  return enter(1, &argument, wait_flags_ | IORING_ENTER_EXT_ARG | (absolute_timer_ ? kEnterAbsoluteTimer : 0));
}

int Ring::enter(unsigned completions_min, io_uring_getevents_arg* argument, unsigned flags) noexcept {
  // release: the kernel reads the entries after it has read the tail.
  std::atomic_ref<unsigned>(*ring_.sq.ktail).store(sq_tail_, std::memory_order_release);
  ++enters_;
  const int result =
      io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), queued(), completions_min, enter_flags_ | flags,
                      reinterpret_cast<sigset_t*>(argument), argument != nullptr ? sizeof(*argument) : _NSIG / 8);
  sq_head_ = load(ring_.sq.khead);
  return result;
}

}  // namespace evlua
