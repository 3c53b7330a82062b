#include "backends/sim/backend.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "backends/sim/driver.h"
#include "core/check.h"
#include "core/refusal.h"

namespace evlua {
namespace {

/// What a look at the kernel costs: a program that only polls still sees time pass.
constexpr Duration kPollCost = kMicrosecond;

/// The queue that `op` waits its turn in, if any.
std::deque<SimFlight*>* queue_of(SimFile& file, const Op& op) noexcept {
  const bool is_stream = file.kind != SimFile::Kind::node;
  switch (op.code) {
    case OpCode::accept:
    case OpCode::recv:
    case OpCode::recvmsg: return &file.reading;
    case OpCode::connect:
    case OpCode::send:
    case OpCode::sendmsg: return &file.writing;
    // A file's position belongs to both directions; accesses that name their offset need no order.
    case OpCode::read: return is_stream || op.args.read.offset == -1 ? &file.reading : nullptr;
    case OpCode::write:
      if (is_stream) return &file.writing;
      return op.args.write.offset == -1 ? &file.reading : nullptr;
    default: return nullptr;
  }
}

/// Descriptor operations; the others name a path, from a directory perhaps.
bool needs_descriptor(OpCode code) noexcept { return code != OpCode::nop && !is_path_op(code); }

}  // namespace

SimBuffers::SimBuffers() {
  free_.reserve(kBufferCount);
  for (std::uint16_t id = kBufferCount; id > 0; --id) free_.push_back(static_cast<std::uint16_t>(id - 1));
}

std::uint16_t SimBuffers::lend() noexcept {
  if (free_.empty()) return kNoBuffer;
  const std::uint16_t id = free_.back();
  free_.pop_back();
  note_lent();
  return id;
}

SimBackend::SimBackend(SimWorld& world) : state_(*world.state_) {
  const std::lock_guard lock(state_.mutex);
  state_.backends.push_back(this);
}

SimBackend::~SimBackend() {
  const std::lock_guard lock(state_.mutex);
  std::map<std::uint64_t, SimFlight*> in_order;  // of submission: the map's own order varies from run to run
  for (auto& [op, flight] : flights_) in_order.emplace(flight.number, &flight);
  for (const auto& [number, flight] : in_order) leave_file(*flight);
  for (const auto& [number, flight] : in_order) dispose(*flight);
  flights_.clear();
  state_.backends.erase(std::remove(state_.backends.begin(), state_.backends.end(), this), state_.backends.end());
  state_.clock_or_work.notify_all();
}

Result<void> SimBackend::start(BackendHost&) {
  buffers_.bind_to_this_thread();
  return {};
}

// -- submitting and cancelling --------------------------------------------------------------------------------------

void SimBackend::interleave() const noexcept {
  if (state_.driver != nullptr) state_.driver->interleave();
}

void SimBackend::submit(Op& op) noexcept {
  interleave();
  const std::lock_guard lock(state_.mutex);
  const auto [at, is_new] = flights_.try_emplace(&op);
  if (!is_new) state_.violation("an operation in flight was submitted again");
  SimFlight& flight = at->second;
  flight.op = &op;
  flight.backend = this;
  flight.number = state_.next_flight++;
  ++state_.flying[static_cast<std::size_t>(op.code)];
  flight.file = state_.file(op.fd);
  op.res = 0;
  if (op.code == OpCode::recv && op.args.recv.data == nullptr) op.buffer = kNoBuffer;
  state_.note("submit", flight);
  if (flight.file != nullptr) {
    if (op.code == OpCode::close && flight.file->in_flight != 0) {
      state_.violation("a descriptor was closed with operations in flight");
    }
    check_receiving(op, *flight.file);
    ++flight.file->in_flight;
    if (auto* queue = queue_of(*flight.file, op)) {
      queue->push_back(&flight);
      flight.in_line = true;
    }
  }
  schedule(flight, state_.now + state_.delay());
}

/// What a backend that receives ahead relies on: nobody else takes what it has not handed out.
void SimBackend::check_receiving(const Op& op, SimFile& file) noexcept {
  if (op.code == OpCode::recv_rest) file.received_ahead_by = nullptr;
  if (op.code != OpCode::recv) return;
  const bool by_us = op.args.recv.ahead && op.args.recv.data == nullptr;
  const bool by_nobody_else = file.received_ahead_by == nullptr || (by_us && file.received_ahead_by == this);
  if (!by_nobody_else) state_.violation("a descriptor was received from beside a receive ahead");
  if (by_us) file.received_ahead_by = this;
}

void SimBackend::cancel(Op& op) noexcept {
  interleave();
  const std::lock_guard lock(state_.mutex);
  const auto found = flights_.find(&op);
  if (found == flights_.end()) state_.violation("an operation was cancelled that is not in flight");
  SimFlight& flight = found->second;
  state_.note("cancel", flight);
  if (flight.stop_asked || op.code == OpCode::close) return;
  flight.stop_asked = true;
  if (flight.stage == SimFlight::Stage::waiting && !flight.scheduled) schedule(flight, state_.now + state_.delay());
}

void SimBackend::schedule(SimFlight& flight, Instant at) noexcept {
  EVLUA_CHECK(!flight.scheduled);
  flight.when = {at, state_.next_event++};
  flight.scheduled = true;
  events_.emplace(flight.when, &flight);
  if (is_asleep_) {
    target_ = std::min(target_, at);
    state_.clock_or_work.notify_all();
  }
}

// -- events ---------------------------------------------------------------------------------------------------------

void SimBackend::run_due(ReadyList& ready) noexcept {
  while (!events_.empty() && events_.begin()->first.first <= state_.now) {
    SimFlight& flight = *events_.begin()->second;
    events_.erase(events_.begin());
    flight.scheduled = false;
    if (flight.stage == SimFlight::Stage::done) {
      land(flight, ready);
    } else {
      attempt(flight);
    }
  }
}

void SimBackend::attempt(SimFlight& flight) noexcept {
  flight.stage = SimFlight::Stage::starting;  // what it changes itself is no reason to try again
  const std::int32_t result = result_of_attempt(flight);
  if (result == kSimBlocked) return;
  flight.op->res = result;
  flight.stage = SimFlight::Stage::done;
  state_.note("result", flight);
  leave_file(flight);
  schedule(flight, state_.now + state_.delay());
}

// kSimBlocked: it stays in flight, and another attempt is either scheduled or up to a change.
std::int32_t SimBackend::result_of_attempt(SimFlight& flight) noexcept {
  Op& op = *flight.op;
  if (flight.stop_asked && state_.random.chance(0.7)) return -ECANCELED;  // else the result may win
  if (flight.file == nullptr && needs_descriptor(op.code)) return -EBADF;
  const std::int32_t fault = std::exchange(flight.attempted, true) ? 0 : state_.roll_fault(op);
  if (fault == -ECONNRESET && flight.file != nullptr) state_.reset(*flight.file);
  if (fault != 0 && op.code != OpCode::close) return fault;
  if (flight.in_line && queue_of(*flight.file, op)->front() != &flight) {
    flight.stage = SimFlight::Stage::waiting;
    return flight.stop_asked ? -ECANCELED : kSimBlocked;
  }
  const bool interrupted = state_.random.chance(state_.faults.interrupted);
  if (op.code != OpCode::close && (interrupted || state_.random.chance(state_.faults.would_block))) {
    if (flight.stop_asked) return -ECANCELED;
    state_.note(interrupted ? "EINTR" : "EAGAIN", flight);
    schedule(flight, state_.now + state_.delay());
    return kSimBlocked;
  }
  const std::int32_t result = sim_perform(state_, flight, &SimBackend::lend, this);
  if (result != kSimBlocked) return fault != 0 ? fault : result;
  return flight.stop_asked ? -ECANCELED : park(flight);
}

/// It has started and must wait for a change; the next in line may start.
std::int32_t SimBackend::park(SimFlight& flight) noexcept {
  flight.stage = SimFlight::Stage::waiting;
  state_.note("waits", flight);
  if (flight.file == nullptr || flight.parked) return kSimBlocked;
  if (flight.in_line) queue_of(*flight.file, *flight.op)->pop_front();
  flight.in_line = false;
  flight.parked = true;
  flight.file->waiting.push_back(&flight);
  state_.next_in_line(*flight.file);
  return kSimBlocked;
}

/// It has its result; the next in line may start.
void SimBackend::leave_file(SimFlight& flight) noexcept {
  flight.opening.reset();
  if (flight.file == nullptr) return;
  SimFile& file = *flight.file;
  const auto drop = [&flight](auto& from) { from.erase(std::remove(from.begin(), from.end(), &flight), from.end()); };
  if (flight.in_line) drop(*queue_of(file, *flight.op));
  if (flight.parked) drop(file.waiting);
  flight.in_line = flight.parked = false;
  state_.next_in_line(file);
}

void SimBackend::land(SimFlight& flight, ReadyList& ready) noexcept {
  state_.note("ready", flight);
  if (flight.file != nullptr) --flight.file->in_flight;
  Op& op = *flight.op;
  --state_.flying[static_cast<std::size_t>(op.code)];
  flights_.erase(&op);
  ready.push_back(op);
}

/// The result, if any, has no taker.
void SimBackend::dispose(SimFlight& flight) noexcept {
  Op& op = *flight.op;
  --state_.flying[static_cast<std::size_t>(op.code)];
  if (flight.scheduled) events_.erase(flight.when);
  if (flight.file != nullptr) --flight.file->in_flight;
  if (flight.stage != SimFlight::Stage::done) {
    if (op.code == OpCode::close) state_.close(op.fd);
    return;
  }
  if (returns_descriptor(op.code) && op.res >= 0) state_.close(op.res);
  if (op.buffer == kHeapBuffer) std::free(op.args.recv.data);
  if (op.buffer < BufferSource::kBufferCount) buffers_.release(op.buffer);
}

bool SimBackend::lend(void* self, Op& op) noexcept {
  auto& buffers = static_cast<SimBackend*>(self)->buffers_;
  if (memory_refused()) return false;
  op.buffer = buffers.lend();
  if (op.buffer != kNoBuffer) {
    op.args.recv.data = buffers.data(op.buffer);
    return true;
  }
  op.args.recv.data = std::malloc(BufferSource::kBufferBytes);
  if (op.args.recv.data == nullptr) return false;
  op.buffer = kHeapBuffer;
  return true;
}

// -- waiting --------------------------------------------------------------------------------------------------------

void SimBackend::poll(ReadyList& ready) noexcept {
  interleave();
  const std::lock_guard lock(state_.mutex);
  buffers_.reclaim();
  state_.advance(state_.now + kPollCost);
  run_due(ready);
}

void SimBackend::wait(ReadyList& ready, Instant deadline) noexcept {
  std::unique_lock lock(state_.mutex);
  buffers_.reclaim();
  state_.advance(state_.now + kPollCost);
  for (;;) {
    run_due(ready);
    if (!ready.empty() || wake_pending_ || deadline <= state_.now) break;
    target_ = std::min(next_event_at(), deadline);
    if (target_ == kNever && state_.single_thread) {
      if (!state_.on_deadlock) state_.violation("deadlock: nothing can end this wait");
      const auto on_deadlock = state_.on_deadlock;
      lock.unlock();
      return on_deadlock();
    }
    if (state_.driver == nullptr && target_ != kNever && others_sleep_longer(target_)) {
      state_.advance(target_);
      continue;
    }
    is_asleep_ = true;
    if (state_.driver != nullptr) {
      lock.unlock();
      state_.driver->sleep(*this);
      lock.lock();
      is_asleep_ = false;
      continue;
    }
    ++state_.sleepers;
    state_.clock_or_work.wait(lock);
    --state_.sleepers;
    is_asleep_ = false;
  }
  wake_pending_ = false;
  if (state_.sleepers > 0) state_.clock_or_work.notify_all();  // they no longer need wait for us
}

bool SimBackend::others_sleep_longer(Instant target) const noexcept {
  return std::all_of(state_.backends.begin(), state_.backends.end(), [&](const SimBackend* other) {
    return other == this || !other->is_asleep_ || other->target_ >= target;
  });
}

void SimBackend::wake(Backend*) noexcept {
  interleave();
  {
    const std::lock_guard lock(state_.mutex);
    wake_pending_ = true;
    if (state_.sleepers > 0) state_.clock_or_work.notify_all();
  }
  interleave();
}

bool SimBackend::is_due() const noexcept {
  const std::lock_guard lock(state_.mutex);
  return wake_pending_ || target_ <= state_.now;
}

bool SimBackend::has_work() const noexcept {
  const std::lock_guard lock(state_.mutex);
  return next_event_at() <= state_.now;
}

void SimBackend::shut_down(int fd, int how) noexcept {
  const std::lock_guard lock(state_.mutex);
  if (const SimFilePointer file = state_.file(fd)) (void)sim_shut_down(state_, *file, how);
}

Instant SimBackend::now() noexcept {
  const std::lock_guard lock(state_.mutex);
  return state_.now;
}

std::unique_ptr<Backend> make_sim_backend(SimWorld& world) { return std::make_unique<SimBackend>(world); }

}  // namespace evlua
