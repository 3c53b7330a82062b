// Children that nobody waits for any more, and that go on: a thread of its own collects them when they end, so that no
// zombie stays.
#pragma once

#include <sys/types.h>

namespace evlua::fs {

/// REQUIRES: the child is ours, has not been waited for, and nobody else will wait for it. [any thread]
void adopt_orphan(pid_t pid) noexcept;

}  // namespace evlua::fs
