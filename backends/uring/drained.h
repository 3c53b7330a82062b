// Which sockets were empty after the last receive: the next one asks the kernel to wait for data first, and not to try
// in vain. A wrong guess, as for a number that has come to stand for another socket, costs some nanoseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace evlua::uring {

class DrainedSockets {
 public:
  bool contains(int fd) const noexcept {
    const auto index = static_cast<std::size_t>(fd);
    return index / 64 < words_.size() && (words_[index / 64] >> (index % 64) & 1) != 0;
  }

  void note(int fd, bool drained) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (index / 64 >= words_.size() && !grow(index / 64 + 1)) return;
    const std::uint64_t bit = std::uint64_t{1} << (index % 64);
    words_[index / 64] = drained ? words_[index / 64] | bit : words_[index / 64] & ~bit;
  }

 private:
  bool grow(std::size_t words) noexcept {
    try {
      words_.resize(words);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  std::vector<std::uint64_t> words_;
};

}  // namespace evlua::uring
