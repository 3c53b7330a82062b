// Where coroutine frames come from: free lists by size class, one set per thread, with a shared depot behind them.
//
// A frame may be freed on any thread, whichever allocated it: it then serves that thread. Each thread keeps at most
// two magazines of frames per class; full magazines go to the depot and come back from it in one step under a spin
// lock, so a thread that only frees feeds one that only allocates. The depot is bounded too: beyond its limit memory
// goes back to the system. A thread that ends hands its frames to the depot.
//
// Frames larger than the largest class, and all frames under AddressSanitizer, come from operator new.
#pragma once

#include <cstddef>
#include <cstdint>

namespace evlua {

/// Memory for a frame of `size` bytes, aligned as by operator new. Throws std::bad_alloc as that does. [any thread]
[[nodiscard]] void* frame_allocate(std::size_t size);

/// Gives a frame back. REQUIRES: `size` is what it was allocated with. Safe in static and thread_local destructors.
/// [any thread]
void frame_free(void* frame, std::size_t size) noexcept;

/// Frames allocated and not yet freed, over all threads. Exact when no thread is allocating or freeing. It walks all
/// threads: for tests and shutdown checks. [any thread]
std::int64_t frame_pool_live() noexcept;

/// Free frames held by the depot, in bytes. For tests. [any thread]
std::size_t frame_pool_depot_bytes() noexcept;

}  // namespace evlua
