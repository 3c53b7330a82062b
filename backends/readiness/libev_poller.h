// A Poller on libev: one loop of its own, no signal or child handling.
#pragma once

#include <memory>

#include "backends/readiness/poller.h"
#include "core/error.h"

namespace evlua {

/// Null when libev cannot make a loop (no descriptors left).
std::unique_ptr<Poller> make_libev_poller();

}  // namespace evlua
