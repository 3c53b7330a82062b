// How often each descriptor number has been closed by any worker of this process.
//
// A readiness backend remembers things about a descriptor between operations: its kind, and that the poller still
// watches it. Connections move between workers, and the number that worker A remembers may be closed by worker B and
// come back as another file. So whoever closes counts, and whoever remembers compares.
#pragma once

#include <cstdint>

namespace evlua {

/// Changes whenever `fd` is closed through note_close. [any thread]
std::uint32_t descriptor_age(int fd) noexcept;

/// Called just before the system call that closes `fd`. [any thread]
void note_close(int fd) noexcept;

}  // namespace evlua
