#include "core/event.h"

#include "core/worker.h"

namespace evlua {

void Event::wake(Wait& waiter) noexcept {
  waiter.woken_ = true;
  Worker::cancel(waiter);
}

}  // namespace evlua
