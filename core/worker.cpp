// The worker loop, and the life of an operation as the worker sees it.
//
// Parking and waking follow core/idle.h: a worker that finds nothing sets the mark in its inbox, counts itself out, and
// then looks at every queue once more before it sleeps; whoever makes work visible does so first and looks at the idle
// word afterwards.
#include "core/worker.h"

#include <cerrno>

#include "core/scheduler.h"
#include "core/this_thread.h"
#include "core/trace.h"

namespace evlua {

namespace {

void count(std::atomic<std::uint64_t>& counter) noexcept {
  // Only the owner writes, so no read-modify-write is needed.
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

Op& op_of_cancel(Runnable& node) noexcept {
  return static_cast<Op&>(reinterpret_cast<CancelMessage&>(node));  // its first and only member
}

}  // namespace

struct Worker::Closer final : Op, Executor {
  Closer() : Op(OpCode::close, -1) { home = this; }
  void enqueue(Runnable&) noexcept override {
    fd = -1;
    owner->spare_closers_.push_back(*this);
  }
};

Worker::Worker(Scheduler& scheduler, unsigned index, std::unique_ptr<Backend> backend)
    : scheduler_(scheduler), index_(index), backend_(std::move(backend)), random_(index * 2654435761U + 1) {}

Worker::~Worker() {
  while (Closer* spare = spare_closers_.pop_front()) delete spare;
}

Worker& Worker::current() noexcept {
  EVLUA_DCHECK(this_thread.worker != nullptr);
  return *this_thread.worker;
}

Worker* Worker::current_or_null() noexcept { return this_thread.worker; }

BlockingPool& Worker::pool() noexcept { return scheduler_.pool(); }

// -- operations -----------------------------------------------------------------------------------------------------

void Worker::prepare(Op& op) noexcept {
  EVLUA_DCHECK(this == this_thread.worker && !op.in_flight());
  op.owner = this;
  op.why = OpStop::none;
  op.buffer = kNoBuffer;
  // Relaxed: a canceller learns of the op through the CancelState's lock or its strand.
  op.state.store(Op::kInFlight, std::memory_order_relaxed);
}

void Worker::abandon(Op& op, OpStop why) noexcept {
  op.why = why;
  op.res = -ECANCELED;
  op.state.store(0, std::memory_order_relaxed);
}

void Worker::submit(Op& op) noexcept {
  ++in_flight_;
  count(counters_.operations);
  if (op.deadline != kNever) timers_.insert(op);
  if (op.code != OpCode::sleep) backend_->submit(op);
}

void Worker::cancel(Op& op) noexcept {
  Worker* owner = op.owner;
  if (owner == this_thread.worker) {
    if (op.in_flight()) owner->stop_op(op, OpStop::cancelled);
    return;
  }
  std::uint8_t expected = Op::kInFlight;
  // acq_rel: pairs with finish; the one who sets the second bit keeps the op alive until the owner consumed the node.
  if (!op.state.compare_exchange_strong(expected, Op::kInFlight | Op::kCancelPosted, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
    return;
  }
  op.cancel_node.run = [](Runnable& node) noexcept {
    Op& target = op_of_cancel(node);
    Worker& self = *target.owner;
    if (target.in_flight()) self.stop_op(target, OpStop::cancelled);
    // acq_rel: pairs with finish, which left the delivery to us if the result came first.
    if (target.state.fetch_and(static_cast<std::uint8_t>(~Op::kCancelPosted), std::memory_order_acq_rel) ==
        Op::kCancelPosted) {
      self.deliver(target);
    }
  };
  owner->post(op.cancel_node);
}

void Worker::stop_op(Op& op, OpStop why) noexcept {
  if (op.why == OpStop::none) op.why = why;
  if (op.code == OpCode::sleep) {
    op.res = -ECANCELED;
    finish(op);
    return;
  }
  backend_->cancel(op);
}

void Worker::finish(Op& op) noexcept {
  if (op.queued()) timers_.erase(op);
  // acq_rel: pairs with the exchange in cancel. A posted cancel node must come home before the frame may go on.
  if (op.state.fetch_and(static_cast<std::uint8_t>(~Op::kInFlight), std::memory_order_acq_rel) == Op::kInFlight) {
    deliver(op);
  }
}

void Worker::deliver(Op& op) noexcept {
  --in_flight_;
  op.done_at = now_;
  op.home->enqueue(op);
}

void Worker::deliver_ready(ReadyList& ready) noexcept {
  while (Op* op = ready.pop_front()) finish(*op);
  fire_timers();
  counters_.longest_queue.note(deque_.size());
}

void Worker::fire_timers() noexcept {
  while (TimerNode* timer = timers_.pop_due(now_)) {
    Op& op = static_cast<Op&>(*timer);
    if (op.code == OpCode::sleep) {
      op.res = 0;
      finish(op);
    } else {
      stop_op(op, OpStop::deadline);
    }
  }
}

void Worker::close_later(int fd) noexcept {
  Closer* spare = spare_closers_.pop_front();
  if (spare == nullptr) spare = new Closer;
  spare->fd = fd;
  prepare(*spare);
  submit(*spare);
}

// -- work -----------------------------------------------------------------------------------------------------------

void Worker::push(Runnable& work) noexcept {
  if (!deque_.push(work)) {
    Queue<Runnable> overflow;
    deque_.push(work, overflow);
    while (Runnable* item = overflow.pop_front()) scheduler_.inject(*item);
  }
  scheduler_.notify();
}

void Worker::push_next(Runnable& work) noexcept {
  Runnable* displaced = next_;
  next_ = &work;
  if (displaced != nullptr) push(*displaced);
}

void Worker::enqueue(Runnable& work) noexcept {
  if (this == this_thread.worker) {
    pinned_.push_back(work);
  } else {
    post(work);
  }
}

void Worker::post(Runnable& message) noexcept {
  if (inbox_.post(message)) {
    scheduler_.idle_.unparked_by_wake();
    Worker* from = this_thread.worker;
    backend_->wake(from == nullptr ? nullptr : from->backend_.get());
  }
}

bool Worker::try_wake() noexcept {
  if (!inbox_.unmark()) return false;
  scheduler_.idle_.unparked_by_wake();
  Worker* from = this_thread.worker;
  backend_->wake(from == nullptr ? nullptr : from->backend_.get());
  return true;
}

void Worker::drain_inbox() noexcept {
  for (Runnable* message = inbox_.take_all(); message != nullptr;) {
    Runnable* following = message->next;
    message->next = nullptr;
    message->run(*message);
    message = following;
  }
}

Runnable* Worker::next_work() noexcept {
  if (next_ != nullptr && next_in_a_row_ < kNextInARow) {
    ++next_in_a_row_;
    return std::exchange(next_, nullptr);
  }
  next_in_a_row_ = 0;
  if (catching_up_ > 0) {
    --catching_up_;
    if (Runnable* work = pinned_.pop_front()) return work;
    catching_up_ = 0;
    poll_backend();  // hands over what they submitted
  }
  // In turns: pinned work that makes more pinned work must not shut out the rest.
  pinned_first_ = !pinned_first_;
  if (pinned_first_) {
    if (Runnable* work = pinned_.pop_front()) return work;
  }
  if (Runnable* work = deque_.take()) return work;
  if (Runnable* work = pinned_.pop_front()) return work;
  return std::exchange(next_, nullptr);
}

Runnable* Worker::steal() noexcept {
  const unsigned workers = scheduler_.worker_count();
  if (workers == 1) return nullptr;
  if (!searching_) {
    if (!scheduler_.idle_.try_start_search()) return nullptr;
    searching_ = true;
  }
  random_ = random_ * 1664525U + 1013904223U;
  const unsigned start = (random_ >> 8) % workers;
  for (unsigned step = 0; step < workers; ++step) {
    Worker& victim = scheduler_.worker((start + step) % workers);
    if (&victim == this) continue;
    if (Runnable* work = victim.deque_.steal_half_into(deque_)) {
      count(counters_.tasks_stolen);
      return work;
    }
  }
  return nullptr;
}

void Worker::poll_backend() noexcept {
  const Trace::Span span("poll");
  ReadyList ready;
  backend_->poll(ready);
  now_ = backend_->now();
  note_poll();
  deliver_ready(ready);
}

void Worker::note_poll() noexcept {
  counters_.longest_poll_gap.note(static_cast<std::uint64_t>(now_ - std::exchange(polled_, now_)));
}

bool Worker::others_wait() noexcept {
  if (inbox_.has_messages()) return true;
  poll_backend();
  return next_ != nullptr || !pinned_.empty() || scheduler_.has_visible_work();
}

void Worker::offer_work() noexcept {
  if (inbox_.has_messages()) drain_inbox();
  poll_backend();
  if (next_ != nullptr) push(*std::exchange(next_, nullptr));
}

void Worker::park() noexcept {
  if (!inbox_.try_mark()) return;
  (void)scheduler_.idle_.park(std::exchange(searching_, false));
  // From here on whoever adds work sees us parked; what was added before, we see now.
  if (!scheduler_.has_visible_work() && !finished()) {
    count(counters_.parks);
    now_ = backend_->now();
    note_poll();
    ReadyList ready;
    {
      const Trace::Span span("park");
      backend_->wait(ready, timers_.next_deadline());
    }
    unpark();
    now_ = polled_ = backend_->now();
    deliver_ready(ready);
  } else {
    unpark();
  }
}

void Worker::unpark() noexcept {
  if (inbox_.unmark()) {
    scheduler_.idle_.unpark_self();
  } else {
    searching_ = true;  // whoever cleared the mark counted us in
  }
}

bool Worker::turn() noexcept {
  if (inbox_.has_messages()) drain_inbox();
  if (++tick_ % kTicksPerPoll == 0) {
    poll_backend();
    if (Runnable* work = scheduler_.take_injected(*this)) push(*work);
  }
  Runnable* work = next_work();
  if (work == nullptr && timers_.next_deadline() != kNever) {
    now_ = backend_->now();
    fire_timers();
    work = next_work();
  }
  if (work == nullptr) work = scheduler_.take_injected(*this);
  if (work == nullptr) work = steal();
  if (work == nullptr) return false;
  if (std::exchange(searching_, false) && scheduler_.idle_.end_search()) {
    scheduler_.notify();  // the last searcher found work: there may be more, and nobody else looks
  }
  count(counters_.tasks_run);
  const Trace::Span span("run");
  work->run(*work);
  return true;
}

bool Worker::finished() const noexcept { return scheduler_.stopping() && in_flight_ == 0 && !inbox_.has_messages(); }

Result<void> Worker::start() noexcept {
  this_thread.worker = this;
  Trace::name_thread("worker ", index_);
  Result<void> started = backend_->start(*this);
  if (!started) {
    this_thread.worker = nullptr;
    return started;
  }
  backend_->buffers().bind_to_this_thread();
  now_ = polled_ = backend_->now();
  return {};
}

void Worker::run_loop() noexcept {
  while (true) {
    if (turn()) continue;
    if (finished()) break;
    park();
  }
  if (std::exchange(searching_, false)) (void)scheduler_.idle_.end_search();
  this_thread.worker = nullptr;
}

}  // namespace evlua
