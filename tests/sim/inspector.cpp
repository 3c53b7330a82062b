#include "tests/sim/inspector.h"

#include "backends/sim/backend.h"
#include "core/scheduler.h"
#include "core/strand.h"
#include "core/worker.h"
#include "lua/bridge.h"
#include "lua/fiber.h"
#include "lua/vm.h"

namespace evlua {

namespace {

constexpr std::size_t kItemsMax = 1'000'000;  // of a queue: more of them is a circle

/// An operation that its worker has, whichever way.
const char* check_op(const Op& op, const Worker& worker) {
  if (!op.in_flight()) return "an operation was completed that has not ended";
  if (op.owner != &worker) return "an operation is with another worker than its own";
  if (op.home == nullptr) return "an operation has nobody to go home to";
  return nullptr;
}

}  // namespace

/// Whether what follows each other ends with the last, and how many that are.
template <class T>
const char* Inspector::check_queue(const T& queue) {
  if ((queue.head_ == nullptr) != (queue.tail_ == nullptr)) return "a queue has a beginning and no end";
  std::size_t items = 0;
  const Runnable* last = nullptr;
  for (const Runnable* item = queue.head_; item != nullptr; item = item->next) {
    last = item;
    if (++items > kItemsMax) return "a queue is a circle";
  }
  return last == queue.tail_ ? nullptr : "a queue ends before its end";
}

// -- at any step ----------------------------------------------------------------------------------------------------

const char* Inspector::check(Scheduler& scheduler) {
  for (const auto& worker : scheduler.workers_) {
    if (const char* broken = check(*worker)) return broken;
  }
  // Whoever holds the lock is in the middle of a change.
  if (!scheduler.injected_lock_.try_lock()) return nullptr;
  const char* broken = check_queue(scheduler.injected_);
  std::size_t injected = 0;
  if (broken == nullptr) {
    for (const Runnable* item = scheduler.injected_.head_; item != nullptr; item = item->next) ++injected;
  }
  const std::size_t counted = scheduler.injected_count_.load(std::memory_order_relaxed);
  scheduler.injected_lock_.unlock();
  if (broken == nullptr && injected != counted) broken = "injected work was miscounted";
  return broken;
}

const char* Inspector::check(Worker& worker) {
  const auto queued = static_cast<std::int64_t>(worker.deque_.size());
  // One less than none: the owner is about to find that a thief has taken the last.
  if (queued < -1 || queued > static_cast<std::int64_t>(decltype(worker.deque_)::kCapacity)) {
    return "a worker's deque has more than it can hold";
  }
  if (const char* broken = check_queue(worker.pinned_)) return broken;
  if (const char* broken = check_queue(worker.spare_closers_)) return broken;

  std::size_t held = 0;
  const auto& backend = static_cast<const SimBackend&>(*worker.backend_);
  for (const auto& [op, flight] : backend.flights_) {
    if (const char* broken = check_op(*op, worker)) return broken;
    ++held;
  }
  const auto& timers = worker.timers_.entries_;
  for (std::size_t at = 0; at < timers.size(); ++at) {
    const auto& op = static_cast<const Op&>(*timers[at].node);
    if (op.heap_index != at || op.deadline != timers[at].deadline) return "a timer is not where it says";
    if (at > 0 && timers[at].deadline < timers[(at - 1) / TimerHeap::kArity].deadline) return "timers are out of order";
    if (const char* broken = check_op(op, worker)) return broken;
    if (op.code == OpCode::sleep) ++held;
  }
  // More of them: sleeps without an end, and what was reaped and is about to be delivered.
  return held <= worker.in_flight_ ? nullptr : "an operation was completed twice";
}

const char* Inspector::check(lua::Vm& vm) {
  std::size_t live = 0;
  const char* broken = nullptr;
  vm.live_.for_each([&](lua::Fiber& fiber) {
    ++live;
    if (fiber.root_ == nullptr) broken = "a task has no coroutine";
    if (fiber.waiting_ != nullptr && fiber.waiting_ != fiber.slot_used_) broken = "a task waits for what is gone";
    if (fiber.waiting_ != nullptr && vm.running_ == &fiber && fiber.starting_ == lua::Fiber::Starting::no) {
      broken = "a task runs and waits";
    }
  });
  if (broken != nullptr) return broken;
  if (live != vm.live_fibers()) return "there are other tasks than were counted";
  return vm.inner_waits_ <= live ? nullptr : "more tasks wait than there are";
}

// -- when all sleep -------------------------------------------------------------------------------------------------

const char* Inspector::check_idle(Scheduler& scheduler) {
  std::int32_t asleep = 0;
  for (const auto& worker : scheduler.workers_) {
    if (worker->inbox_.marked()) ++asleep;
    if (const char* broken = check_idle(*worker)) return broken;
  }
  if (scheduler.idle_.searching() != 0) return "a worker sleeps that counts as searching";
  return scheduler.idle_.parked() == asleep ? nullptr : "other workers sleep than were counted";
}

const char* Inspector::check_idle(Worker& worker) {
  const auto& backend = static_cast<const SimBackend&>(*worker.backend_);
  const auto lost = [](const Op& op) { return (op.state.load(std::memory_order_relaxed) & Op::kCancelPosted) != 0; };
  for (const auto& [op, flight] : backend.flights_) {
    if (lost(*op)) return "lost wake-up: nobody hears the ask to cancel an operation";
    if (op->why != OpStop::none && !flight.scheduled) return "lost wake-up: an operation that was stopped goes on";
  }
  for (const auto& timer : worker.timers_.entries_) {
    const auto& op = static_cast<const Op&>(*timer.node);
    if (lost(op)) return "lost wake-up: nobody hears that a sleep was ended";
    if (op.code == OpCode::sleep && op.why != OpStop::none) return "lost wake-up: a sleep goes on that was ended";
  }
  return nullptr;
}

const Strand* Inspector::outer(const Strand& strand) noexcept { return strand.outer_; }

bool Inspector::seems_idle(const Strand& strand) noexcept { return strand.inbox_.marked(); }

const char* Inspector::check_idle(const Strand& strand) {
  if (!strand.local_.empty() || strand.inbox_.has_messages()) return "lost wake-up: something waits for an idle strand";
  return strand.inbox_.marked() ? nullptr : "somebody has gone to sleep on a strand";
}

const char* Inspector::check_idle(lua::Vm& vm) {
  if (const char* broken = check_idle(vm.strand_)) return broken;
  if (vm.running_ != nullptr) return "a Lua task runs while all workers sleep";
  const char* broken = nullptr;
  vm.live_.for_each([&](lua::Fiber& fiber) {
    const lua::Suspension* waiting = fiber.waiting_;
    if (fiber.ending_) return;  // what it has deferred runs as another
    if (waiting == nullptr) {
      broken = "lost wake-up: a Lua task could go on, and nobody runs it";
    } else if (waiting->cancel == &lua::Park::ask_to_end) {
      const auto& park = static_cast<const lua::Park&>(*waiting);
      if (park.over() && !park.waits_for_others()) broken = "lost wake-up: a Lua task waits that has been woken";
    }
  });
  return broken;
}

}  // namespace evlua
