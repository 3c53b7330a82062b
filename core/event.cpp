#include "core/event.h"

#include "core/worker.h"

namespace evlua {

void Event::wake(Wait& waiter) noexcept { Worker::cancel(waiter); }

}  // namespace evlua
