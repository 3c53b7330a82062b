// Which backend this process uses: chosen by name, else by what the kernel allows.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "core/backend.h"

namespace evlua {

struct BackendChoice {
  BackendFactory factory;
  std::string name;     ///< "io_uring" or "libev"
  std::string refusal;  ///< why io_uring was not used, with the cure; empty when it was, or was not wanted
};

/// `requested` is "auto", "io_uring" or "libev"; empty means the environment variable EVLUA_BACKEND, or else "auto".
/// The error is a sentence for people: an unknown name, or an io_uring that was asked for and cannot be had. Reads the
/// environment, so call it before threads change that.
tl::expected<BackendChoice, std::string> select_backend(std::string_view requested);

}  // namespace evlua
