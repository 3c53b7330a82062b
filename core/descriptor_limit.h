// How many descriptors this process may have (RLIMIT_NOFILE). The soft limit is 1024 in most places, and not more,
// because select(2) cannot count any further; the hard one is what is really allowed. We take all of that, and give the
// programs that we start what we were started with, since they may use select.
#pragma once

namespace evlua {

/// Raises the soft limit to the hard one, if the system lets us. Before there are threads.
void raise_descriptor_limit() noexcept;

/// As it was before. For a child in front of its execve: async-signal-safe.
void restore_descriptor_limit() noexcept;

}  // namespace evlua
