// Results that are not simply delivered. A retry happens here and is never seen above, unless a cancel was asked for:
// then what would be retried is ECANCELED.
//
//   EINTR    a signal reached a kernel thread: again. Cancelling such a thread shows as EINTR, too.
//   EAGAIN   a descriptor somebody else made non-blocking, or MSG_DONTWAIT: wait for readiness, then again.
//   ENOBUFS  no lent buffer: take in what came back, bring more into use, or receive into memory from the heap.
//   open     of a FIFO: see fifo.cpp.
#include <cerrno>
#include <cstdlib>

#include "backends/uring/backend.h"
#include "backends/uring/op_state.h"

namespace evlua {

using namespace uring;

namespace {

/// What the kernel calls an interrupted system call between itself: ERESTARTSYS and its kin reach us unchanged when
/// a kernel thread is interrupted (seen with openat of a FIFO on 6.18).
bool is_interrupted(std::int32_t result) noexcept {
  return result == -EINTR || result == -512 || result == -513 || result == -514 || result == -516;
}

bool waits_for_readiness(OpCode code) noexcept {
  return waits_for_reading(code) || code == OpCode::send || code == OpCode::sendmsg || code == OpCode::write;
}

}  // namespace

bool UringBackend::prepare_buffer(Op& op) noexcept {
  op.buffer = kNoBuffer;
  if (buffers_.ready(ring_)) [[likely]]
    return true;
  if (use_heap(op)) return true;
  finish_later(op, -ENOMEM);
  return false;
}

bool UringBackend::use_heap(Op& op) noexcept {
  void* memory = std::malloc(BufferSource::kBufferBytes);
  if (memory == nullptr) return false;
  op.args.recv.data = memory;
  set_special(op, kOwnBuffer);
  ++counters_.heap_receives;
  return true;
}

bool UringBackend::is_stopped(const Op& op) const noexcept {
  return closing_ || (op.backend_state & kCancelAsked) != 0;
}

bool UringBackend::settle(Op& op, std::int32_t& result) noexcept {
  if ((special(op) & kFifoReader) != 0) return settle_fifo(op, kThreadOpens, result);
  if (is_interrupted(result)) result = -EINTR;
  if (result < 0 && !settle_failure(op, result)) return false;
  if ((special(op) & kCheckOpened) != 0) return settle_open(op, result);
  if (op.code == OpCode::open && (special(op) & kForceThread) != 0) {
    clear_special(op, kForceThread);
    other_end_ended();
  }
  if ((special(op) & kOwnBuffer) != 0) {
    op.buffer = kHeapBuffer;
    if (result <= 0) {
      std::free(op.args.recv.data);
      op.args.recv.data = nullptr;
      op.buffer = kNoBuffer;
    }
  }
  return true;
}

bool UringBackend::settle_failure(Op& op, std::int32_t& result) noexcept {
  const bool wants_buffer = op.code == OpCode::recv && op.args.recv.data == nullptr;
  if (result == -EINTR) {
    if (op.code == OpCode::close) {
      result = 0;  // Linux has closed the descriptor; closing it again would hit somebody else's
      return true;
    }
  } else if (result == -EAGAIN) {
    if (!waits_for_readiness(op.code) && op.code != OpCode::connect) return true;
  } else if (result != -ENOBUFS || !wants_buffer) {
    return true;
  }
  if (is_stopped(op)) {
    result = -ECANCELED;
    return true;
  }
  if (result == -ENOBUFS && !buffers_.promise() && !use_heap(op)) {
    result = -ENOMEM;
    return true;
  }
  // A Unix socket whose peer's queue is full says EAGAIN and is writable all the same: a thread must block on it.
  if (result == -EAGAIN) set_special(op, op.code == OpCode::connect ? kForceThread : kWaitsReady);
  start_again(op);
  return false;
}

bool UringBackend::settle_readiness(Op& op, std::int32_t& result) noexcept {
  if ((special(op) & kFifoReader) != 0) return settle_fifo(op, kHeldPolled, result);
  clear_special(op, kWaitsReady);
  if (is_stopped(op)) {
    result = -ECANCELED;
  } else if (result >= 0) {
    start_again(op);
    return false;
  } else if (is_interrupted(result)) {
    set_special(op, kWaitsReady);
    start_again(op);
    return false;
  }
  return settle(op, result);  // memory may have to be given back
}

}  // namespace evlua
