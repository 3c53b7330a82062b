#include "backends/readiness/backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "backends/perform.h"

namespace evlua {

ReadinessBackend::ReadinessBackend(const char* name, PollerFactory make_poller)
    : name_(name), make_poller_(make_poller) {}

ReadinessBackend::~ReadinessBackend() {
  // Nobody takes these results any more; descriptors among them would leak.
  while (Op* op = done_.pop_front()) {
    if (returns_descriptor(op->code) && op->res >= 0) close_orphan(op->res);
  }
}

Result<void> ReadinessBackend::start(BackendHost& host) {
  poller_ = make_poller_();
  if (poller_ == nullptr) return fail(errno != 0 ? errno : ENOMEM);
  pool_.start(host);
  buffers_.bind_to_this_thread();
  return {};
}

// -- buffers ------------------------------------------------------------------------------------------------------------

bool ReadinessBackend::Buffers::take(Op& op) noexcept {
  if (free_.empty()) (void)reclaim();
  std::uint16_t id = kHeapBuffer;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else if (untouched_ < kBufferCount) {
    id = untouched_++;
  }
  void* memory = id == kHeapBuffer ? std::malloc(kBufferBytes) : data(id);
  if (memory == nullptr) return false;
  if (id != kHeapBuffer) note_lent();
  op.buffer = id;
  op.args.recv.data = memory;
  const std::uint32_t asked = op.args.recv.size;
  op.args.recv.size = asked == 0 ? kBufferBytes : std::min<std::uint32_t>(asked, kBufferBytes);
  return true;
}

void ReadinessBackend::Buffers::give_back(Op& op) noexcept {
  if (op.buffer == kHeapBuffer) {
    std::free(op.args.recv.data);
  } else {
    release(op.buffer);
  }
  op.buffer = kNoBuffer;
  op.args.recv.data = nullptr;
}

// -- submitting ---------------------------------------------------------------------------------------------------------

Direction ReadinessBackend::direction_of(const Op& op) noexcept {
  if (op.code == OpCode::poll) {
    return (op.args.poll.events & POLLIN) != 0 ? Direction::reading : Direction::writing;
  }
  return waits_for_reading(op.code) ? Direction::reading : Direction::writing;
}

ReadinessBackend::Descriptor& ReadinessBackend::descriptor(int fd) {
  const auto index = static_cast<std::size_t>(fd);
  if (index >= descriptors_.size()) descriptors_.resize(std::max(index + 1, descriptors_.size() * 2));
  return descriptors_[index];
}

/// What kind of descriptor this is; asked once, forgotten when it is closed here.
void ReadinessBackend::look_at(Descriptor& descriptor, int fd) noexcept {
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  const bool file = known && (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode));
  const int flags = ::fcntl(fd, F_GETFL);
  descriptor.kind = !known ? Kind::unknown : file ? Kind::file : Kind::pollable;
  descriptor.nonblocking = flags >= 0 && (flags & O_NONBLOCK) != 0;
}

void ReadinessBackend::submit(Op& op) noexcept {
  ++in_flight_;
  op.backend_data = 0;
  if (op.code == OpCode::nop || op.code == OpCode::shutdown) {
    finish(op, perform_now(op, true));
  } else if (op.code == OpCode::close) {
    close(op);
  } else if (is_path_op(op.code) || op.code == OpCode::fsync || op.code == OpCode::truncate) {
    to_pool(op);
  } else if (op.fd < 0) {
    finish(op, -EBADF);
  } else {
    enter_slot(op);
  }
}

void ReadinessBackend::enter_slot(Op& op) noexcept {
  Descriptor& target = descriptor(op.fd);
  if (target.kind == Kind::unknown) look_at(target, op.fd);
  if (target.kind == Kind::unknown) {
    finish(op, -EBADF);
    return;
  }
  if (target.kind == Kind::file && is_file_op(op.code)) {
    to_pool(op);
    return;
  }
  const Direction direction = direction_of(op);
  Slot& slot = target.slots[static_cast<int>(direction)];
  if (slot.waiting.empty() && !slot.likely_empty) {
    const std::int32_t result = attempt(op, target, slot);
    if (result != -EAGAIN) {
      finish(op, result);
      return;
    }
  }
  op.backend_state = static_cast<std::uint8_t>(Place::waiting);
  slot.waiting.push_back(op);
  if (!slot.armed) {
    slot.armed = true;
    poller_->arm(op.fd, direction);
  }
}

/// One system call; -EAGAIN means that the op must wait for readiness.
std::int32_t ReadinessBackend::attempt(Op& op, Descriptor& descriptor, Slot& slot) noexcept {
  const bool lend = op.code == OpCode::recv && op.args.recv.data == nullptr;
  const std::uint32_t asked = lend ? op.args.recv.size : 0;
  if (lend && !buffers_.take(op)) return -ENOMEM;
  const std::int32_t result = perform_now(op, descriptor.nonblocking);
  if (op.code == OpCode::recv) {
    slot.likely_empty = result > 0 && static_cast<std::uint32_t>(result) < op.args.recv.size;
  }
  if (lend && result <= 0) {
    buffers_.give_back(op);
    op.args.recv.size = asked;
  }
  if (op.code == OpCode::connect) op.backend_data = 1;  // next time ask how it went
  return result;
}

void ReadinessBackend::close(Op& op) noexcept {
  if (op.fd >= 0 && static_cast<std::size_t>(op.fd) < descriptors_.size()) {
    Descriptor& closing = descriptors_[static_cast<std::size_t>(op.fd)];
    for (Slot& slot : closing.slots) {
      while (Op* waiting = slot.waiting.pop_front()) finish(*waiting, -ECANCELED);
      slot = Slot{};
    }
    poller_->forget(op.fd);
    closing.kind = Kind::unknown;
  }
  finish(op, perform_now(op, true));
}

void ReadinessBackend::finish(Op& op, std::int32_t result) noexcept {
  op.res = result;
  op.backend_state = static_cast<std::uint8_t>(Place::done);
  done_.push_back(op);
}

void ReadinessBackend::to_pool(Op& op) noexcept {
  op.backend_state = static_cast<std::uint8_t>(Place::pool);
  pool_.submit(op);
}

void ReadinessBackend::cancel(Op& op) noexcept {
  switch (static_cast<Place>(op.backend_state)) {
    case Place::done: return;  // its result won
    case Place::pool: pool_.cancel(op); return;
    case Place::waiting: break;
  }
  Slot& slot = descriptor(op.fd).slots[static_cast<int>(direction_of(op))];
  if (slot.waiting.remove(op)) finish(op, -ECANCELED);
}

// -- reaping ------------------------------------------------------------------------------------------------------------

void ReadinessBackend::on_ready(int fd, Direction direction) noexcept {
  Descriptor& ready = descriptor(fd);
  Slot& slot = ready.slots[static_cast<int>(direction)];
  slot.likely_empty = false;
  if (slot.waiting.empty()) {
    // Stays armed between operations, since another one usually follows; nobody came.
    slot.armed = false;
    poller_->disarm(fd, direction);
    return;
  }
  while (Op* op = slot.waiting.front()) {
    if (slot.likely_empty) return;
    const std::int32_t result = attempt(*op, ready, slot);
    if (result == -EAGAIN) return;
    (void)slot.waiting.pop_front();
    finish(*op, result);
  }
}

void ReadinessBackend::take_done(ReadyList& ready) noexcept {
  ReadyList from_pool;
  pool_.collect(from_pool);
  done_.append(std::move(from_pool));
  while (Op* op = done_.pop_front()) {
    --in_flight_;
    ready.push_back(*op);
  }
}

void ReadinessBackend::poll(ReadyList& ready) noexcept {
  if (pool_.interrupting()) pool_.keep_interrupting();
  poller_->wait(*this, 0);
  take_done(ready);
}

void ReadinessBackend::wait(ReadyList& ready, Instant deadline) noexcept {
  if (has_work()) {
    poll(ready);
    return;
  }
  constexpr Duration kInterruptEvery = 2 * kMillisecond;
  Duration timeout = deadline == kNever ? kNever : std::max<Duration>(deadline - monotonic_now(), 0);
  if (pool_.interrupting()) {
    pool_.keep_interrupting();
    timeout = std::min(timeout, kInterruptEvery);
  }
  poller_->wait(*this, timeout);
  take_done(ready);
}

void ReadinessBackend::wake(Backend*) noexcept { poller_->wake(); }

}  // namespace evlua
