#include "core/op.h"

#include <cerrno>

namespace evlua {

std::int32_t Op::outcome() const noexcept { return res == -ECANCELED && why == OpStop::deadline ? -ETIMEDOUT : res; }

}  // namespace evlua
