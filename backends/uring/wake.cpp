// Waking. One flag says that a wake is on its way, so a burst of them costs one message.
//
// The waker published its work, then sets the flag with a read-modify-write; the owner clears it with another when the
// message arrives, and looks for work after that. So a waker that finds the flag set can leave: the owner's clearing
// comes later in the flag's order, reads what the waker wrote, and synchronises with it.
//
// The message is a completion that MSG_RING posts to the sleeper's ring. Kernels since 6.13 let any thread send it with
// one call that needs no ring; it takes as long as an entry submitted at once (13 us per hop, an eventfd 28), but does
// not wait behind what the waker's ring has queued. On older kernels a worker sends an entry of its own ring, and
// other threads write to an eventfd which the sleeper's ring polls.
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "backends/uring/backend.h"
#include "backends/uring/op_state.h"
#include "backends/uring/prep.h"

namespace evlua {

using namespace uring;

namespace {

/// A completion with user_data kTagWake for the ring behind `peer_fd`.
void prepare_message(io_uring_sqe& sqe, int peer_fd) noexcept {
  sqe.opcode = IORING_OP_MSG_RING;
  sqe.fd = peer_fd;
  sqe.addr = IORING_MSG_DATA;
  sqe.off = kTagWake;
}

void send_without_ring(int peer_fd) noexcept {
  io_uring_sqe sqe;
  std::memset(&sqe, 0, sizeof(sqe));
  prepare_message(sqe, peer_fd);
  for (;;) {
    const int result = io_uring_register(static_cast<unsigned>(-1), kRegisterSendMsgRing, &sqe, 1);
    if (result != -ENOMEM && result != -EAGAIN && result != -EINTR) return;
    ::sched_yield();  // no memory for the message just now, and without it the owner would sleep on
  }
}

}  // namespace

void UringBackend::wake(Backend* from) noexcept {
  if (wake_pending_.exchange(true, std::memory_order_seq_cst)) return;
  const int fd = ring_fd_.load(std::memory_order_seq_cst);
  if (fd < 0) return;  // not started: start() looks at the flag
  if (features_.send_msg_ring) return send_without_ring(fd);
  auto* sender = dynamic_cast<UringBackend*>(from);
  if (sender != nullptr && sender != this && sender->send_wake(fd)) return;
  const std::uint64_t one = 1;
  // The counter cannot be full: at most one wake is under way.
  EVLUA_CHECK(::write(event_fd_, &one, sizeof(one)) == sizeof(one));
}

bool UringBackend::send_wake(int peer_fd) noexcept {
  io_uring_sqe* sqe = ring_.next_sqe();
  if (sqe == nullptr) {
    ring_.flush();
    sqe = ring_.next_sqe();
    if (sqe == nullptr) return false;
  }
  prepare_message(*sqe, peer_fd);
  sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
  sqe->user_data = kTagPeer | static_cast<std::uint64_t>(peer_fd) << 3;
  ring_.flush();
  return true;
}

void UringBackend::on_message(std::uint64_t user_data, std::int32_t result, ReadyList& ready) noexcept {
  switch (user_data & kTagMask) {
    case kTagReady:
      if (settle_readiness(*reinterpret_cast<Op*>(user_data & ~kTagMask), result)) {
        hand_out(*reinterpret_cast<Op*>(user_data & ~kTagMask), result, ready);
      }
      return;
    case kTagEventFd: {
      eventfd_t count = 0;
      static_cast<void>(::eventfd_read(event_fd_, &count));  // fails only when the poll was cancelled
      if (!closing_) arm_event_fd();
      [[fallthrough]];
    }
    case kTagWake:
      // acquire: pairs with wake(); what the waker published before is seen from here on.
      wake_pending_.exchange(false, std::memory_order_seq_cst);
      woken_ = true;
      return;
    case kTagPeer:
      // A peer that has ended needs no wake. Otherwise memory was short: once more.
      if (result != -EBADF && result != -EBADFD && result != -EOWNERDEAD) send_wake(static_cast<int>(user_data >> 3));
      return;
    default: return;  // kTagCancel: the op ended before the ask arrived
  }
}

void UringBackend::arm_event_fd() noexcept {
  io_uring_sqe* sqe = ring_.next_sqe();
  event_fd_disarmed_ = sqe == nullptr;
  if (sqe == nullptr) return;
  prepare_poll(*sqe, event_fd_, POLLIN);
  sqe->user_data = kTagEventFd;
}

}  // namespace evlua
