#include "backends/readiness/libev_backend.h"

#include "backends/readiness/backend.h"
#include "backends/readiness/libev_poller.h"

namespace evlua {

std::unique_ptr<Backend> make_libev_backend() {
  return std::make_unique<ReadinessBackend>("libev", &make_libev_poller);
}

}  // namespace evlua
