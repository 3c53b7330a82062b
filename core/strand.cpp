#include "core/strand.h"

#include "core/lockfree/pause.h"
#include "core/scheduler.h"
#include "core/this_thread.h"
#include "core/trace.h"

namespace evlua {

Strand::Strand(Scheduler& scheduler) noexcept
    : Runnable([](Runnable& self) noexcept {
        auto& strand = static_cast<Strand&>(self);
        strand.outer_ = this_thread.strand;
        this_thread.strand = &strand;
        strand.run_share();
      }),
      scheduler_(scheduler) {}

Strand::~Strand() { EVLUA_CHECK(inbox_.marked() && local_.empty()); }

void Strand::wait_until_left() const noexcept {
  while (!inbox_.is_away()) yield_processor();
}

bool Strand::is_current() const noexcept { return this_thread.strand == this; }

void Strand::enqueue(Runnable& work) noexcept {
  if (is_current()) {
    local_.push_back(work);
    return;
  }
  if (inbox_.post(work)) scheduler_.enqueue_next(*this);
}

bool Strand::try_enter() noexcept {
  // Clearing the mark makes us the owner; acquire comes with it, see Inbox::unmark.
  if (!inbox_.unmark()) return false;
  outer_ = this_thread.strand;
  this_thread.strand = this;
  return true;
}

void Strand::leave() noexcept { run_share(); }

void Strand::run_share() noexcept {
  const Trace::Span span("strand");
  Backend& clock = Worker::current().backend();
  const Instant started = clock.now();
  for (unsigned items = 0;; ++items) {
    // Looking into the inbox now and then keeps work that makes more work from shutting out the rest.
    if (items % 16 == 0 || local_.empty()) local_.append_chain(inbox_.take_all());
    Runnable* work = local_.pop_front();
    if (work == nullptr) {
      Strand* outer = outer_;
      // After the mark is set another worker may enter at once: touch nothing of this strand then.
      if (inbox_.try_mark()) {
        this_thread.strand = outer;
        return;
      }
      continue;
    }
    if (std::exchange(gives_way_, false) || items >= kItemsPerShare ||
        (items % 8 == 7 && clock.now() - started > kTimePerShare)) {
      local_.push_front(*work);
      break;
    }
    work->run(*work);
  }
  this_thread.strand = outer_;
  if (Worker* worker = Worker::current_or_null()) worker->catch_up();
  scheduler_.enqueue(*this);
}

}  // namespace evlua
