#include "backends/readiness/backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <utility>

#include "backends/descriptor_age.h"
#include "backends/perform.h"

namespace evlua {

namespace {

constexpr std::int32_t kMustWait = -EAGAIN;
constexpr std::int32_t kNeedsPool = std::numeric_limits<std::int32_t>::min();

/// More is not copied from the page cache on a worker's time.
constexpr std::uint32_t kInlineReadMax = 256 * 1024;

// Readiness without progress, so often in a row, means that this kind of waiting is not what poll tells about: a
// connect to a Unix listener with a full queue, for one. Such a direction is looked at again and again, but never in a
// spin.
constexpr std::uint8_t kFalseAlarmsMax = 4;
constexpr Duration kRest = 2 * kMillisecond;

// So many results that are there already go first, and the kernel is asked after them. The next read of a connection
// that has just been answered then finds its descriptor still watched, and the kernel is not told twice of each
// request.
constexpr std::size_t kResultsFirstMax = 512;

Direction direction_of(const Op& op) noexcept {
  return waits_for_reading(op.code) ? Direction::reading : Direction::writing;
}

bool poll_wants(const Op& op, Direction direction) noexcept {
  constexpr std::uint32_t kWriting = POLLOUT | POLLWRNORM | POLLWRBAND;
  const std::uint32_t events = op.args.poll.events;
  // Errors and hang-ups come with either direction.
  return direction == Direction::writing ? (events & kWriting) != 0 : (events & ~kWriting) != 0 || events == 0;
}

/// Of these the kernel never says that they would have to wait.
bool is_sure_to_block(OpCode code) noexcept {
  return code == OpCode::fsync || code == OpCode::truncate || code == OpCode::splice;
}

bool is_at_own_position(const Op& op) noexcept {
  return (op.code == OpCode::read ? op.args.read.offset : op.args.write.offset) < 0;
}

}  // namespace

ReadinessBackend::ReadinessBackend(const char* name, PollerFactory make_poller)
    : name_(name), make_poller_(make_poller) {}

ReadinessBackend::~ReadinessBackend() {
  // Nobody takes these results any more.
  while (Op* op = done_.pop_front()) {
    discard_result(*op);
    if (op->code == OpCode::recv && op->buffer != kNoBuffer) buffers_.give_back(*op);
  }
}

Result<void> ReadinessBackend::start(BackendHost& host) {
  errno = 0;
  poller_ = make_poller_();
  if (poller_ == nullptr) return fail(errno != 0 ? errno : ENOMEM);
  pool_.start(host);
  buffers_.bind_to_this_thread();
  return {};
}

// -- buffers ---------------------------------------------------------------------------------------------------------

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

// -- submitting ------------------------------------------------------------------------------------------------------

ReadinessBackend::Descriptor& ReadinessBackend::descriptor(int fd) {
  const auto index = static_cast<std::size_t>(fd);
  if (index >= descriptors_.size()) descriptors_.resize(std::max(index + 1, descriptors_.size() * 2));
  Descriptor& found = descriptors_[index];
  if (const std::uint32_t age = descriptor_age(fd); found.age != age) {
    // Closed since we last saw it, here or by another worker.
    if (!found.is_awaited()) {
      poller_->forget(fd);
      found = Descriptor{};
    }
    found.age = age;
  }
  return found;
}

/// What kind of descriptor this is; asked once, and only for reads, writes and closes. Stays unknown for one that is
/// not open.
void ReadinessBackend::look_at(Descriptor& descriptor, int fd) noexcept {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return;
  const int flags = std::max(::fcntl(fd, F_GETFL), 0);
  descriptor.nonblocking = (flags & O_NONBLOCK) != 0;
  if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode)) {
    descriptor.kind = Kind::file;
    descriptor.can_tell = (flags & O_DIRECT) == 0;  // a direct read waits for the device, RWF_NOWAIT or not
  } else if (S_ISSOCK(info.st_mode)) {
    descriptor.kind = Kind::socket;
  } else {
    descriptor.kind = descriptor.nonblocking ? Kind::nonblocking : Kind::blocking;
  }
}

void ReadinessBackend::submit(Op& op) noexcept {
  ++in_flight_;
  op.backend_data = 0;
  if (op.code == OpCode::nop || op.code == OpCode::shutdown || op.code == OpCode::recv_rest) {
    finish(op, perform_now(op));
  } else if (op.code == OpCode::close) {
    close(op);
  } else if (is_path_op(op.code) || is_sure_to_block(op.code)) {
    to_pool(op, Place::pool, false);
  } else {
    enter(op);
  }
}

void ReadinessBackend::enter(Op& op) noexcept {
  // Any number may come; make room only for those that exist.
  const bool is_open =
      op.fd >= 0 && (static_cast<std::size_t>(op.fd) < descriptors_.size() || ::fcntl(op.fd, F_GETFD) >= 0);
  if (!is_open) {
    finish(op, -EBADF);
    return;
  }
  Descriptor& target = descriptor(op.fd);
  if (is_file_op(op.code) && target.kind == Kind::unknown) {
    look_at(target, op.fd);
    if (target.kind == Kind::unknown) {
      finish(op, -EBADF);
      return;
    }
  }
  if (op.code == OpCode::poll) {
    enter_polls(op, target);
  } else {
    enter_slot(op, target);
  }
}

void ReadinessBackend::enter_polls(Op& op, Descriptor& descriptor) noexcept {
  std::int32_t result = perform_now(op);
  // Of these, libev learns nothing.
  if (result == kMustWait && op.args.poll.events == POLLPRI) result = -EINVAL;
  if (result != kMustWait) {
    finish(op, result);
    return;
  }
  op.backend_state = static_cast<std::uint8_t>(Place::waiting);
  descriptor.polls.push_back(op);
  for (const Direction direction : {Direction::reading, Direction::writing}) {
    if (poll_wants(op, direction)) watch(op.fd, direction);
  }
}

void ReadinessBackend::enter_slot(Op& op, Descriptor& descriptor) noexcept {
  const Direction direction = direction_of(op);
  Slot& slot = descriptor.slot(direction);
  // Those at the file's own position keep their order; the others are independent of each other.
  const bool is_free = descriptor.kind == Kind::file && is_file_op(op.code) && !is_at_own_position(op);
  if (is_free || (slot.waiting.empty() && !slot.in_pool && !slot.exhausted)) {
    const std::int32_t result = attempt(op, descriptor, slot);
    if (result == kNeedsPool) {
      slot.in_pool = slot.in_pool || !is_free;
      to_pool(op, is_free ? Place::pool : Place::pool_in_order, descriptor.kind != Kind::file);
      return;
    }
    if (result != kMustWait) {
      finish(op, result);
      return;
    }
  }
  op.backend_state = static_cast<std::uint8_t>(Place::waiting);
  slot.waiting.push_back(op);
  if (!slot.in_pool) watch(op.fd, direction);
}

void ReadinessBackend::close(Op& op) noexcept {
  Descriptor closing;
  if (op.fd >= 0 && static_cast<std::size_t>(op.fd) < descriptors_.size()) {
    Descriptor& record = descriptor(op.fd);
    // There should be none. If there are, nothing else would end them.
    for (Slot& slot : record.slots) {
      while (Op* waiting = slot.waiting.pop_front()) finish(*waiting, -ECANCELED);
    }
    while (Op* waiting = record.polls.pop_front()) finish(*waiting, -ECANCELED);
    poller_->forget(op.fd);
    closing = std::exchange(record, Descriptor{});
  }
  if (closing.kind == Kind::unknown) look_at(closing, op.fd);
  // Closing a file may write to a server far away.
  if (closing.kind == Kind::file) {
    to_pool(op, Place::pool, false);
  } else {
    finish(op, perform_now(op));
  }
}

void ReadinessBackend::finish(Op& op, std::int32_t result) noexcept {
  if (static_cast<Place>(op.backend_state) == Place::waiting) left_.push_back(op.fd);
  op.res = result;
  op.backend_state = static_cast<std::uint8_t>(Place::done);
  done_.push_back(op);
}

void ReadinessBackend::to_pool(Op& op, Place place, bool may_hang) noexcept {
  op.backend_state = static_cast<std::uint8_t>(place);
  pool_.submit(op, may_hang);
}

void ReadinessBackend::cancel(Op& op) noexcept {
  switch (static_cast<Place>(op.backend_state)) {
    case Place::done: return;  // its result won
    case Place::pool:
    case Place::pool_in_order: pool_.cancel(op); return;
    case Place::waiting: break;
  }
  Descriptor& from = descriptors_[static_cast<std::size_t>(op.fd)];
  Queue<Op>& queue = op.code == OpCode::poll ? from.polls : from.slot(direction_of(op)).waiting;
  if (queue.remove(op)) finish(op, -ECANCELED);
}

// -- attempts --------------------------------------------------------------------------------------------------------

std::int32_t ReadinessBackend::attempt(Op& op, Descriptor& descriptor, Slot& slot) noexcept {
  if (op.code == OpCode::read || op.code == OpCode::write) return attempt_read_or_write(op, descriptor);
  const std::int32_t result =
      op.code == OpCode::recv ? attempt_recv(op, slot) : attempt_socket_op(op, descriptor, slot);
  if (descriptor.kind == Kind::unknown && result != -ENOTSOCK && result != -EBADF) descriptor.kind = Kind::socket;
  return result;
}

std::int32_t ReadinessBackend::attempt_recv(Op& op, Slot& slot) noexcept {
  const bool lend = op.args.recv.data == nullptr;
  const std::uint32_t asked = op.args.recv.size;
  if (lend && !buffers_.take(op)) return -ENOMEM;
  const std::int32_t result = perform_now(op);
  slot.exhausted = result > 0 && static_cast<std::uint32_t>(result) < op.args.recv.size;
  if (lend && result <= 0) {
    buffers_.give_back(op);
    op.args.recv.size = asked;
  }
  return result;
}

std::int32_t ReadinessBackend::attempt_socket_op(Op& op, Descriptor& descriptor, Slot& slot) noexcept {
  if ((op.code == OpCode::accept || op.code == OpCode::connect) && !descriptor.nonblocking) {
    // One made for other hands, such as an inherited listener. There is no flag for a single accept or connect.
    const int flags = ::fcntl(op.fd, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK) == 0) (void)::fcntl(op.fd, F_SETFL, flags | O_NONBLOCK);
    descriptor.nonblocking = true;
  }
  const std::int32_t result = perform_now(op);
  if (op.code == OpCode::send) {
    slot.exhausted = result > 0 && static_cast<std::uint32_t>(result) < op.args.send.size;
  }
  return result;
}

std::int32_t ReadinessBackend::attempt_read_or_write(Op& op, Descriptor& descriptor) noexcept {
  const bool reading = op.code == OpCode::read;
  switch (descriptor.kind) {
    case Kind::unknown: break;
    case Kind::socket: return perform_on_socket(op);
    case Kind::nonblocking: return perform_now(op);
    case Kind::file: {
      if (!reading || op.args.read.size > kInlineReadMax || !descriptor.can_tell) return kNeedsPool;
      const std::int32_t result = perform_without_waiting(op);
      if (result == -EOPNOTSUPP) descriptor.can_tell = false;
      // The end of the file is worth a second look: nothing else tells "no more" from "not now" so finally.
      return result == -EOPNOTSUPP || result == -EAGAIN || result == 0 ? kNeedsPool : result;
    }
    case Kind::blocking: {
      if (descriptor.can_tell) {
        const std::int32_t result = perform_without_waiting(op);
        if (result != -EOPNOTSUPP) return result;
        descriptor.can_tell = false;
      }
      // Readiness is no promise: another process may be quicker, and a large write may not fit. A thread can wait.
      const std::int32_t result = ready_events(op.fd, reading ? POLLIN : POLLOUT);
      return result < 0 ? result : kNeedsPool;
    }
  }
  EVLUA_UNREACHABLE();
}

// -- waiting ---------------------------------------------------------------------------------------------------------

bool ReadinessBackend::is_wanted(const Descriptor& descriptor, Direction direction) noexcept {
  const Slot& slot = descriptor.slots[static_cast<int>(direction)];
  if (!slot.waiting.empty() && !slot.in_pool) return true;
  for (const Runnable* op = descriptor.polls.front(); op != nullptr; op = op->next) {
    if (poll_wants(static_cast<const Op&>(*op), direction)) return true;
  }
  return false;
}

/// Does what can be done now; true when anything ended or went to the pool.
bool ReadinessBackend::advance(Descriptor& descriptor, Direction direction) noexcept {
  Slot& slot = descriptor.slot(direction);
  slot.exhausted = false;
  // Polls first: they are to see what the others are about to take.
  const bool settled = !descriptor.polls.empty() && settle_polls(descriptor);
  const bool advanced = advance_queue(descriptor, slot);
  if (settled || advanced) slot.false_alarms = 0;
  return settled || advanced;
}

bool ReadinessBackend::advance_queue(Descriptor& descriptor, Slot& slot) noexcept {
  bool advanced = false;
  while (!slot.in_pool && !slot.exhausted) {
    Op* op = slot.waiting.front();
    if (op == nullptr) break;
    const std::int32_t result = attempt(*op, descriptor, slot);
    if (result == kMustWait) break;
    (void)slot.waiting.pop_front();
    advanced = true;
    if (result == kNeedsPool) {
      slot.in_pool = true;
      to_pool(*op, Place::pool_in_order, descriptor.kind != Kind::file);
    } else {
      finish(*op, result);
    }
  }
  return advanced;
}

bool ReadinessBackend::settle_polls(Descriptor& descriptor) noexcept {
  bool settled = false;
  Queue<Op> polls = std::move(descriptor.polls);
  while (Op* op = polls.pop_front()) {
    const std::int32_t result = perform_now(*op);
    if (result == kMustWait) {
      descriptor.polls.push_back(*op);
    } else {
      finish(*op, result);
      settled = true;
    }
  }
  return settled;
}

void ReadinessBackend::on_ready(int fd, Direction direction) noexcept {
  Descriptor& ready = descriptors_[static_cast<std::size_t>(fd)];
  Slot& slot = ready.slot(direction);
  if (!is_wanted(ready, direction)) {
    // It stayed watched, since another operation usually follows; nobody came.
    slot.exhausted = false;
    poller_->disarm(fd, direction);
    left_.push_back(fd);
    return;
  }
  if (!advance(ready, direction) && ++slot.false_alarms >= kFalseAlarmsMax) {
    rest(fd, direction);
  } else if (direction == Direction::writing && !is_wanted(ready, direction)) {
    // Nearly always ready: staying would wake us for nothing.
    poller_->disarm(fd, direction);
  }
}

/// A descriptor that nobody awaits here may be closed by another worker at any moment, so the poller must not be about
/// to tell the kernel anything of it. To stop watching altogether takes no call. What is awaited again by now, as a
/// connection usually is, stays watched.
void ReadinessBackend::unwatch_left() noexcept {
  for (const int fd : left_) {
    if (!descriptors_[static_cast<std::size_t>(fd)].is_awaited()) poller_->forget(fd);
  }
  left_.clear();
}

void ReadinessBackend::watch(int fd, Direction direction) noexcept {
  if (!descriptors_[static_cast<std::size_t>(fd)].slot(direction).resting) poller_->arm(fd, direction);
}

void ReadinessBackend::rest(int fd, Direction direction) noexcept {
  if (resting_.empty()) rest_until_ = deadline_after(monotonic_now(), kRest);
  resting_.push_back({fd, direction});
  descriptors_[static_cast<std::size_t>(fd)].slot(direction).resting = true;
  poller_->disarm(fd, direction);
}

void ReadinessBackend::end_rests() noexcept {
  const std::vector<Rest> rested = std::exchange(resting_, {});
  for (const auto [fd, direction] : rested) {
    Descriptor& awake = descriptors_[static_cast<std::size_t>(fd)];
    Slot& slot = awake.slot(direction);
    if (!slot.resting) continue;  // closed meanwhile
    slot.resting = false;
    if (!is_wanted(awake, direction)) continue;
    const bool advanced = advance(awake, direction);
    if (!is_wanted(awake, direction)) continue;
    if (advanced) {
      watch(fd, direction);
    } else {
      rest(fd, direction);
    }
  }
}

// -- reaping ---------------------------------------------------------------------------------------------------------

void ReadinessBackend::take_done(ReadyList& ready) noexcept {
  ReadyList from_pool;
  pool_.collect(from_pool);
  while (Op* op = from_pool.pop_front()) {
    const bool in_order = static_cast<Place>(op->backend_state) == Place::pool_in_order;
    finish(*op, op->res);
    if (!in_order) continue;
    Descriptor& next = descriptors_[static_cast<std::size_t>(op->fd)];
    const Direction direction = direction_of(*op);
    next.slot(direction).in_pool = false;
    (void)advance_queue(next, next.slot(direction));
    if (is_wanted(next, direction)) watch(op->fd, direction);
  }
  while (Op* op = done_.pop_front()) {
    --in_flight_;
    ++results_first_;
    ready.push_back(*op);
  }
}

void ReadinessBackend::poll(ReadyList& ready) noexcept {
  if (pool_.interrupting()) pool_.keep_interrupting();
  if (!resting_.empty() && monotonic_now() >= rest_until_) end_rests();
  if (done_.empty() || results_first_ >= kResultsFirstMax) {
    results_first_ = 0;
    unwatch_left();
    poller_->wait(*this, 0);
  }
  take_done(ready);
}

void ReadinessBackend::wait(ReadyList& ready, Instant deadline) noexcept {
  const Instant now = monotonic_now();
  if (!resting_.empty() && now >= rest_until_) end_rests();
  if (has_work() || woken_.load(std::memory_order_relaxed)) {
    poll(ready);
  } else {
    Duration timeout = deadline == kNever ? kNever : std::max<Duration>(deadline - now, 0);
    if (!resting_.empty()) timeout = std::min(timeout, std::max<Duration>(rest_until_ - now, 0));
    if (pool_.interrupting()) {
      pool_.keep_interrupting();
      timeout = std::min(timeout, PoolOps::kInterruptEvery);
    }
    unwatch_left();
    poller_->wait(*this, timeout);
    take_done(ready);
  }
  // seq_cst, here and below: pairs with wake(). A waker that found the flag set left it at that; what it published
  // before is seen from here on.
  woken_.exchange(false, std::memory_order_seq_cst);
}

void ReadinessBackend::wake(Backend*) noexcept {
  if (!woken_.exchange(true, std::memory_order_seq_cst)) poller_->wake();
}

}  // namespace evlua
