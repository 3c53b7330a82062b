// The common course of an operation: submit fills an entry, poll or wait enters the kernel, reap moves what is done
// to the ready list. What is out of the ordinary is in settle.cpp, waking in wake.cpp,
// receiving for requests to come in ahead.cpp.
//
// The number of operations in flight is not bounded by the completion queue: ten thousand idle connections each have a
// receive waiting and complete nothing. When more complete at once than the queue holds, the kernel keeps the rest
// (IORING_FEAT_NODROP) and raises SQ_CQ_OVERFLOW, which makes us enter again.
#include "backends/uring/backend.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "backends/perform.h"
#include "backends/uring/op_state.h"
#include "backends/uring/prep.h"
#include "core/check.h"

namespace evlua {

using namespace uring;

namespace {

/// ThreadSanitizer follows descriptors by the calls that open and close them. It does not see a ring's close, and who
/// gets the number next on another thread would seem to race with who had it: so it gets a call.
constexpr bool kTellsSanitizer = EVLUA_TSAN != 0;

/// Results of entering that mean "later" or "look at the queue". Everything else is a bug, or lost completions.
void check_entered(int result) noexcept {
  if (result >= 0 || result == -ETIME || result == -EINTR) return;
  EVLUA_CHECK(result == -EAGAIN || result == -EBUSY || result == -ENOMEM);
  ::sched_yield();  // out of memory for requests: let somebody free some
}

}  // namespace

UringBackend::UringBackend(const Options& options) noexcept : buffers_(options.buffers_max), options_(options) {}

UringBackend::~UringBackend() {
  ring_fd_.store(-1, std::memory_order_seq_cst);
  if (ring_.is_open()) drain();
  pool_.stop();  // its threads may still be about to wake us, through the ring or the eventfd
  ring_.close();
  if (event_fd_ >= 0) ::close(event_fd_);
}

Result<void> UringBackend::start(BackendHost& host) {
  EVLUA_CHECK(!ring_.is_open());
  pool_.start(host);
  owner_ = std::this_thread::get_id();
  // Two: what opening a FIFO needs at once.
  options_.ring.submissions = std::max(options_.ring.submissions, 2U);
  const int result = ring_.open(options_.ring);
  if (result < 0) return fail(-result);
  features_ = probe_features(ring_, options_.allowed);
  ring_.set_wait_style(features_.absolute_timer, features_.no_iowait);
  unsigned thread_limits[2] = {kFileThreadsMax, 0};  // bounded work; unbounded (sockets, pipes) unchanged
  io_uring_register_iowq_max_workers(ring_.raw(), thread_limits);
  buffers_.bind_to_this_thread();
  if (!features_.send_msg_ring) {
    event_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd_ < 0) return fail(errno);
    arm_event_fd();
  }
  // seq_cst on both: a wake either sees the descriptor, or is seen here (pairs with wake()).
  ring_fd_.store(ring_.fd(), std::memory_order_seq_cst);
  if (wake_pending_.exchange(false, std::memory_order_seq_cst)) woken_ = true;
  return {};
}

// -- submitting -----------------------------------------------------------------------------------------------------

void UringBackend::submit(Op& op) noexcept {
  ++in_flight_;
  op.backend_state = kInKernel;
  if (op.code == OpCode::recv) {
    if (op.args.recv.data == nullptr && !prepare_buffer(op)) return;
    op.args.recv.ahead = op.args.recv.ahead && op.args.recv.data == nullptr;
    if (op.args.recv.ahead) return submit_ahead(op);
    EVLUA_DCHECK(ahead_.find(op.fd) == nullptr);  // it would take what the other has not
  } else if (op.code == OpCode::recv_rest) {
    return submit_rest(op);
  } else if (op.code == OpCode::close) {
    give_up_ahead(op.fd);
    if (kTellsSanitizer) return finish_later(op, perform_now(op));
  } else if (op.code == OpCode::open) {
    set_special(op, kCheckOpened);
  } else if (op.code == OpCode::write && op.args.write.offset < 0 && ::isatty(op.fd) == 1) {
    // The kernel's first try blocks us there as soon as nobody takes what is written (seen on 6.18).
    set_special(op, kForceThread);
  } else if (op.code == OpCode::truncate && !features_.truncate) {
    set_place(op, kInPool);
    return pool_.submit(op);
  }
  enter_or_queue(op);
}

void UringBackend::enter_or_queue(Op& op) noexcept {
  if (backlog_.empty()) [[likely]] {
    if (fill_entry(op)) [[likely]]
      return;
  }
  ++counters_.backlogged;
  set_place(op, kInBacklog);
  backlog_.push_back(op);
}

bool UringBackend::fill_entry(Op& op) noexcept {
  const std::uint16_t what = special(op);
  if ((what & kFifoReader) != 0) [[unlikely]]
    return fill_fifo_entries(op);
  if (op.code == OpCode::recv && op.args.recv.ahead) return arm_ahead(op);
  io_uring_sqe* sqe = ring_.next_sqe();
  if (sqe == nullptr) [[unlikely]]
    return false;
  if ((what & kWaitsReady) != 0) [[unlikely]] {
    prepare_readiness(*sqe, op);
    sqe->user_data = user_data_of(op, kTagReady);
    return true;
  }
  prepare(*sqe, op);
  sqe->user_data = user_data_of(op, kTagOp);
  if (op.code == OpCode::recv && may_wait_first(op)) sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
  if (what != 0) [[unlikely]] {
    if ((what & kForceThread) != 0) sqe->flags |= IOSQE_ASYNC;
    const bool cut = sqe->len == 0 || sqe->len > BufferSource::kBufferBytes;
    if ((what & kOwnBuffer) != 0 && cut) sqe->len = BufferSource::kBufferBytes;
  }
  return true;
}

/// Not for what is tried again: a descriptor of somebody else's that does not block would say EAGAIN for ever.
bool UringBackend::may_wait_first(const Op& op) const noexcept {
  return op.backend_state == kInKernel && (op.args.recv.flags & MSG_DONTWAIT) == 0 && drained_.contains(op.fd);
}

void UringBackend::start_again(Op& op) noexcept {
  ++counters_.retries;
  set_place(op, kInKernel);
  if (fill_entry(op)) return;
  set_place(op, kInBacklog);
  backlog_.push_front(op);  // it was first before
}

bool UringBackend::has_waiting() const noexcept {
  return !backlog_.empty() || !cancels_.empty() || !ahead_stops_.empty();
}

void UringBackend::hand_over_waiting() noexcept {
  if (event_fd_disarmed_) [[unlikely]]
    arm_event_fd();
  while (Op* op = cancels_.front()) {
    if (!fill_cancel(*op)) return;
    cancels_.pop_front();
    op->backend_state &= static_cast<std::uint8_t>(~kCancelQueued);
  }
  while (!ahead_stops_.empty() && ring_.room() > 0) stop_ahead(*ahead_stops_.pop_front());
  while (Op* op = backlog_.front()) {
    if (!fill_entry(*op)) return;
    set_place(*op, kInKernel);
    backlog_.pop_front();
  }
}

// -- cancelling -----------------------------------------------------------------------------------------------------

void UringBackend::cancel(Op& op) noexcept {
  // A close is never stopped: it is short, and a descriptor it did not close would leak.
  // Nor is a recv_rest, which waits for nobody.
  if (op.code == OpCode::close || op.code == OpCode::recv_rest) return;
  if ((op.backend_state & kCancelAsked) != 0) return;
  op.backend_state |= kCancelAsked;
  switch (place(op)) {
    case kInKernel:
      if (op.code == OpCode::recv && op.args.recv.ahead) return cancel_ahead(op);
      return ask_kernel_to_cancel(op);
    case kInBacklog: backlog_.remove(op); return finish_later(op, -ECANCELED);
    case kInFifoQueue: return leave_fifo_queue(op);
    case kInPool: return pool_.cancel(op);  // asks once: a truncate is short, unless nothing can interrupt it
    default: return;
  }
}

void UringBackend::ask_kernel_to_cancel(Op& op) noexcept {
  // The entry comes behind the op's own in the queue, so the op has begun when the kernel looks for it, and an op that
  // uses the address again later cannot be meant.
  if (fill_cancel(op)) return;
  op.backend_state |= kCancelQueued;
  cancels_.push_back(op);
}

bool UringBackend::fill_cancel(const Op& op) noexcept {
  const bool fifo = (special(op) & kFifoReader) != 0;
  if (ring_.room() < (fifo ? 2 : 1)) return false;
  for (const std::uint64_t tag : {kTagOp, kTagReady}) {
    const bool wanted =
        tag == kTagReady ? (special(op) & (kWaitsReady | kHeldPolled)) != 0 : (special(op) & kWaitsReady) == 0;
    if (!wanted) continue;
    io_uring_sqe* sqe = ring_.next_sqe();
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = user_data_of(op, tag);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = kTagCancel;
  }
  return true;
}

void UringBackend::finish_later(Op& op, std::int32_t result) noexcept {
  if (!settle(op, result)) return;
  op.res = result;
  set_place(op, kIsDone);
  done_.push_back(op);
}

// -- reaping --------------------------------------------------------------------------------------------------------

void UringBackend::take_done(ReadyList& ready) noexcept {
  ReadyList from_pool;
  pool_.collect(from_pool);
  done_.append(std::move(from_pool));
  while (Op* op = done_.pop_front()) {
    --in_flight_;
    ready.push_back(*op);
  }
}

void UringBackend::before_entering(ReadyList& ready) noexcept {
  buffers_.reclaim();
  if (!done_.empty() || pool_.has_done()) [[unlikely]]
    take_done(ready);
  if (has_waiting() || event_fd_disarmed_) [[unlikely]]
    hand_over_waiting();
}

void UringBackend::poll(ReadyList& ready) noexcept {
  before_entering(ready);
  if (ring_.wants_enter()) check_entered(ring_.flush());
  reap(ready);
}

void UringBackend::wait(ReadyList& ready, Instant deadline) noexcept {
  // More than one round only when all that happened is of no interest to the worker, such as a retry.
  for (;;) {
    before_entering(ready);
    int result = 0;
    if (ready.empty() && !woken_ && !has_waiting() && !ring_.has_completions()) {
      result = ring_.wait(deadline);
      check_entered(result);
    } else if (ring_.wants_enter()) {
      check_entered(ring_.flush());
    }
    reap(ready);
    if (!ready.empty() || woken_ || result == -ETIME) break;
  }
  woken_ = false;
}

void UringBackend::reap(ReadyList& ready) noexcept {
  buffers_.forget_promises();
  ring_.reap([this, &ready](const io_uring_cqe& cqe) noexcept {
    const std::uint64_t tag = cqe.user_data & kTagMask;
    if (tag == kTagAhead) return on_ahead(*reinterpret_cast<AheadReceiver*>(cqe.user_data & ~kTagMask), cqe, ready);
    if (tag != kTagOp) [[unlikely]]
      return on_message(cqe.user_data, cqe.res, ready);
    Op& op = *reinterpret_cast<Op*>(cqe.user_data);
    if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) take_buffer(op, cqe.res, cqe.flags);
    deliver(op, cqe.res, ready);
  });
}

inline void UringBackend::take_buffer(Op& op, std::int32_t result, std::uint32_t flags) noexcept {
  const auto id = static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
  buffers_.take(id);
  if (result <= 0) return buffers_.release(id);
  op.buffer = id;
  op.args.recv.data = buffers_.data(id);
  drained_.note(op.fd, (flags & IORING_CQE_F_SOCK_NONEMPTY) == 0);
}

void UringBackend::deliver(Op& op, std::int32_t result, ReadyList& ready) noexcept {
  if (result <= 0 || op.backend_state != kInKernel) [[unlikely]] {
    if (!settle(op, result)) return;
  }
  hand_out(op, result, ready);
}

void UringBackend::hand_out(Op& op, std::int32_t result, ReadyList& ready) noexcept {
  if ((op.backend_state & kCancelQueued) != 0) [[unlikely]]
    cancels_.remove(op);
  op.res = result;
  --in_flight_;
  ready.push_back(op);
}

bool UringBackend::has_work() const noexcept {
  return ring_.wants_enter() || ring_.has_completions() || !done_.empty() || pool_.has_done() || has_waiting();
}

UringBackend::Counters UringBackend::counters() const noexcept {
  Counters counters = counters_;
  counters.enters = ring_.enters();
  return counters;
}

// -- the end --------------------------------------------------------------------------------------------------------

void UringBackend::drain() noexcept {
  closing_ = true;  // from here on settle retries nothing
  ReadyList orphans;
  while (Op* op = backlog_.pop_front()) {
    if (op->code == OpCode::close) ::close(op->fd);
    finish_later(*op, -ECANCELED);
  }
  while (Op* op = fifo_queue_.front()) leave_fifo_queue(*op);
  take_done(orphans);
  // PoolOps::stop sees to what is still there.
  EVLUA_CHECK(in_flight_ == pool_.in_flight() || owner_ == std::this_thread::get_id());
  while (in_flight_ > pool_.in_flight() || ahead_armed_ > 0) {
    if (io_uring_sqe* sqe = ring_.next_sqe()) {
      sqe->opcode = IORING_OP_ASYNC_CANCEL;
      sqe->fd = -1;
      sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
      sqe->user_data = kTagCancel;
    }
    // The kernel may still write where the operations point, so there is no giving up. Asked again every time: a
    // system call on its way into a kernel thread can miss it.
    check_entered(ring_.wait(monotonic_now() + 20 * kMillisecond));
    reap(orphans);
    take_done(orphans);
  }
  while (Op* op = orphans.pop_front()) discard_result(*op);
  buffers_.unregister_from(ring_);
}

std::unique_ptr<Backend> make_uring_backend() { return std::make_unique<UringBackend>(); }

}  // namespace evlua
