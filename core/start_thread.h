// Threads, where the system may have none left: std::thread throws then, and nobody would catch that.
#pragma once

#include <exception>
#include <thread>
#include <utility>

#include "core/error.h"

namespace evlua {

/// A thread that runs `body`; Errc::no_thread if there is none to be had. [any thread]
template <class Body>
Result<std::thread> start_thread(Body body) noexcept {
  try {
    return std::thread(std::move(body));
  } catch (const std::exception&) {  // of the system, or a lack of memory; it says no more than that
    return fail(Errc::no_thread);
  }
}

}  // namespace evlua
