#include "backends/descriptor_age.h"

#include <atomic>
#include <cstddef>

namespace evlua {

namespace {

// Numbers beyond this share a counter with smaller ones, which makes backends forget more often than they must and
// does no other harm. Untouched pages cost nothing.
constexpr std::size_t kCounters = std::size_t{1} << 18;

std::atomic<std::uint32_t> counters[kCounters];

std::atomic<std::uint32_t>& counter(int fd) noexcept { return counters[static_cast<std::size_t>(fd) % kCounters]; }

}  // namespace

// Who gets the number anew has learned it from the kernel after the close, so it sees the count too; release and
// acquire say so to the compiler.
std::uint32_t descriptor_age(int fd) noexcept { return counter(fd).load(std::memory_order_acquire); }

void note_close(int fd) noexcept { counter(fd).fetch_add(1, std::memory_order_release); }

}  // namespace evlua
