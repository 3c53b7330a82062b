// Receiving ahead: one multishot receive serves one `recv` after the other. A request then costs no entry, no request
// structure of the kernel's and no arming of a poll, 4 % of a keep-alive request in all.
//
// What comes while no recv waits is copied out of the lent buffer and kept for the next one. A quick client's next
// request often does: it is here before we have seen that the answer was sent. When more than a little is kept the
// receive is ended, and the kernel's socket buffer holds the peer back, as without receiving ahead. Until the end has
// been seen some more may come, at most what the kernel receives in one go (32 buffers).
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "backends/uring/ahead.h"
#include "backends/uring/backend.h"
#include "backends/uring/op_state.h"
#include "backends/uring/prep.h"

namespace evlua {

using namespace uring;

namespace {

constexpr std::uint32_t kStoredBytesMax = BufferSource::kBufferBytes;

/// An end of the multishot receive that says nothing about the socket, or something it will say again.
bool is_passing(std::int32_t result) noexcept {
  return result >= 0 || result == -ECANCELED || result == -ENOBUFS || result == -EAGAIN || result == -EINTR;
}

}  // namespace

void UringBackend::submit_ahead(Op& op) noexcept {
  AheadReceiver* receiver = ahead_.find_or_add(op.fd);
  if (receiver == nullptr) {
    op.args.recv.ahead = false;
    return enter_or_queue(op);
  }
  EVLUA_DCHECK(receiver->waiting == nullptr);
  if (holds_result(*receiver)) return hand_over_stored(*receiver, op);
  if (!receiver->armed) return enter_or_queue(op);
  receiver->waiting = &op;  // and if the receive is stopping, its end arms it again
}

void UringBackend::submit_rest(Op& op) noexcept {
  op.buffer = kNoBuffer;
  op.args.recv.data = nullptr;
  AheadReceiver* receiver = ahead_.find(op.fd);
  if (receiver == nullptr) return finish_later(op, 0);
  EVLUA_DCHECK(receiver->waiting == nullptr);
  receiver->waiting = &op;
  if (!receiver->armed) return end_ahead(*receiver);
  if (!receiver->stopping) stop_ahead(*receiver);
}

bool UringBackend::arm_ahead(Op& op) noexcept {
  io_uring_sqe* sqe = ring_.next_sqe();
  if (sqe == nullptr) return false;
  AheadReceiver& receiver = *ahead_.find(op.fd);
  receiver.waiting = &op;
  receiver.armed = true;
  receiver.stopping = false;
  ++ahead_armed_;
  prepare(*sqe, op);
  sqe->len = 0;  // a whole buffer each time
  sqe->ioprio = IORING_RECV_MULTISHOT | IORING_RECVSEND_POLL_FIRST;
  sqe->user_data = reinterpret_cast<std::uintptr_t>(&receiver) | kTagAhead;
  return true;
}

void UringBackend::stop_ahead(AheadReceiver& receiver) noexcept {
  receiver.stopping = true;
  io_uring_sqe* sqe = ring_.next_sqe();
  if (sqe == nullptr) return ahead_stops_.push_back(receiver);
  sqe->opcode = IORING_OP_ASYNC_CANCEL;
  sqe->fd = -1;
  sqe->addr = reinterpret_cast<std::uintptr_t>(&receiver) | kTagAhead;
  sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
  sqe->user_data = kTagCancel;
}

void UringBackend::cancel_ahead(Op& op) noexcept {
  ahead_.find(op.fd)->waiting = nullptr;
  finish_later(op, -ECANCELED);
}

void UringBackend::give_up_ahead(int fd) noexcept {
  AheadReceiver* receiver = ahead_.remove(fd);
  if (receiver == nullptr) return;
  EVLUA_DCHECK(receiver->waiting == nullptr);
  receiver->orphaned = true;
  if (!receiver->armed) return end_ahead(*receiver);
  if (!receiver->stopping) stop_ahead(*receiver);
}

bool UringBackend::holds_result(const AheadReceiver& receiver) noexcept {
  return receiver.stored != nullptr || receiver.failure != 0;
}

void UringBackend::hand_over_stored(AheadReceiver& receiver, Op& op) noexcept {
  if (receiver.stored == nullptr) return finish_later(op, receiver.failure);
  op.args.recv.data = std::exchange(receiver.stored, nullptr);
  set_special(op, kOwnBuffer);
  finish_later(op, static_cast<std::int32_t>(std::exchange(receiver.stored_bytes, 0)));
}

void UringBackend::store_ahead(AheadReceiver& receiver, std::uint16_t buffer, std::uint32_t size) noexcept {
  if (receiver.failure != 0) return;  // behind a gap
  auto* memory = static_cast<std::byte*>(std::realloc(receiver.stored, std::size_t{receiver.stored_bytes} + size));
  if (memory == nullptr) {
    receiver.failure = -ENOMEM;
  } else {
    std::memcpy(memory + receiver.stored_bytes, buffers_.data(buffer), size);
    receiver.stored = memory;
    receiver.stored_bytes += size;
  }
}

void UringBackend::on_ahead(AheadReceiver& receiver, const io_uring_cqe& cqe, ReadyList& ready) noexcept {
  const bool last = (cqe.flags & IORING_CQE_F_MORE) == 0;
  if (last) [[unlikely]] {
    receiver.armed = false;
    --ahead_armed_;
    if (receiver.linked()) List<AheadReceiver>::erase(receiver);
  }
  const auto buffer = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
  const bool has_buffer = (cqe.flags & IORING_CQE_F_BUFFER) != 0;
  if (has_buffer) buffers_.take(buffer);
  if (cqe.res > 0 && receiver.waiting != nullptr && receiver.waiting->code == OpCode::recv) [[likely]] {
    Op& op = *std::exchange(receiver.waiting, nullptr);
    op.buffer = buffer;
    op.args.recv.data = buffers_.data(buffer);
    return hand_out(op, cqe.res, ready);
  }
  if (cqe.res > 0 && !receiver.orphaned) store_ahead(receiver, buffer, static_cast<std::uint32_t>(cqe.res));
  if (has_buffer) buffers_.release(buffer);
  if (!last) {
    const bool enough = receiver.stored_bytes > kStoredBytesMax || receiver.failure != 0;
    if (enough && !receiver.stopping) stop_ahead(receiver);
  } else if (receiver.orphaned || (receiver.waiting != nullptr && receiver.waiting->code == OpCode::recv_rest)) {
    end_ahead(receiver);
  } else if (receiver.waiting != nullptr) {
    receive_once(*std::exchange(receiver.waiting, nullptr), cqe.res, ready);
  } else if (!is_passing(cqe.res)) {
    receiver.failure = cqe.res;
  }
}

/// `op` waited in vain: the multishot receive was ended by us, found no buffer, or met the end.
void UringBackend::receive_once(Op& op, std::int32_t result, ReadyList& ready) noexcept {
  if (result == -ECANCELED && !closing_) return start_again(op);
  op.args.recv.ahead = false;
  deliver(op, result, ready);
}

/// Nothing comes any more, and the descriptor is received from in another way, or closed.
void UringBackend::end_ahead(AheadReceiver& receiver) noexcept {
  if (Op* rest = std::exchange(receiver.waiting, nullptr)) {
    ahead_.remove(rest->fd);
    holds_result(receiver) ? hand_over_stored(receiver, *rest) : finish_later(*rest, 0);
  }
  delete &receiver;
}

}  // namespace evlua
