// The portable fallback: readiness by libev (epoll, kqueue, poll, whatever it finds).
#pragma once

#include <memory>

#include "core/backend.h"

namespace evlua {

std::unique_ptr<Backend> make_libev_backend();

}  // namespace evlua
