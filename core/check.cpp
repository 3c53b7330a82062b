#include "core/check.h"

#include <cstdio>
#include <cstdlib>

namespace evlua {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "evlua: broken invariant: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace evlua
