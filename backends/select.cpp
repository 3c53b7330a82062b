#include "backends/select.h"

#include <cstdlib>
#include <utility>

#include "backends/readiness/libev_backend.h"
#include "backends/uring/backend.h"

namespace evlua {
namespace {

BackendChoice uring_choice() { return {.factory = make_uring_backend, .name = "io_uring", .refusal = {}}; }

BackendChoice libev_choice(std::string refusal) {
  return {.factory = make_libev_backend, .name = "libev", .refusal = std::move(refusal)};
}

}  // namespace

tl::expected<BackendChoice, std::string> select_backend(std::string_view requested) {
  std::string origin;
  if (requested.empty()) {
    const char* from_environment = std::getenv("EVLUA_BACKEND");
    if (from_environment != nullptr && *from_environment != '\0') {
      requested = from_environment;
      origin = " in EVLUA_BACKEND";
    }
  }
  if (requested == "libev") return libev_choice({});
  if (requested.empty() || requested == "auto") {
    std::string refusal = uring_refusal();
    return refusal.empty() ? uring_choice() : libev_choice(std::move(refusal));
  }
  if (requested == "io_uring") {
    const std::string refusal = uring_refusal();
    if (refusal.empty()) return uring_choice();
    return tl::unexpected("io_uring cannot be used: " + refusal + "; or choose the backend libev");
  }
  return tl::unexpected("unknown backend \"" + std::string(requested) + "\"" + origin +
                        "; the backends are auto, io_uring, libev");
}

}  // namespace evlua
