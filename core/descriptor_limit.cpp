#include "core/descriptor_limit.h"

#include <sys/resource.h>

namespace evlua {

namespace {

rlimit before{};
bool raised = false;

}  // namespace

void raise_descriptor_limit() noexcept {
  if (::getrlimit(RLIMIT_NOFILE, &before) != 0 || before.rlim_cur >= before.rlim_max) return;
  const rlimit all{before.rlim_max, before.rlim_max};
  raised = ::setrlimit(RLIMIT_NOFILE, &all) == 0;
}

void restore_descriptor_limit() noexcept {
  if (raised) (void)::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace evlua
