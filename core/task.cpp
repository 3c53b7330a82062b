#include "core/task.h"

#include <cstdio>
#include <cstdlib>
#include <exception>

namespace evlua {

void task_threw() noexcept {
  const char* what = "an unknown exception";
  try {
    throw;
  } catch (const std::exception& exception) {
    what = exception.what();
  } catch (...) {
  }
  std::fprintf(stderr, "evlua: an exception left a task: %s\n", what);
  std::abort();
}

}  // namespace evlua
