// Memory for one Lua state: small blocks from free lists by size, since Lua tells every block's size when it gives one
// back and so no block needs a header. Larger ones come from malloc.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace evlua::lua {

/// Not thread-safe: it follows its Lua state from worker to worker. Small blocks go back to the system with the whole.
class Allocator {
 public:
  Allocator() = default;
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  /// As lua_Alloc wants it: `old_size` is exact, and 0 without a block; a `new_size` of 0 frees. Shrinking never fails.
  void* resize(void* block, std::size_t old_size, std::size_t new_size) noexcept;

 private:
  static constexpr std::size_t kGrain = 16;
  static constexpr std::size_t kSmallMax = 256;
  static constexpr std::size_t kClasses = kSmallMax / kGrain;
  static constexpr std::size_t kRegionBytes = 32 * 1024;

  struct FreeBlock {
    FreeBlock* next;
  };

  static std::size_t class_of(std::size_t size) noexcept { return (size - 1) / kGrain; }

  void* take(std::size_t size) noexcept;
  void give_back(void* block, std::size_t size) noexcept;
  void* carve(std::size_t size) noexcept;

  FreeBlock* free_[kClasses] = {};
  std::byte* fresh_ = nullptr;  // what no block has been cut from yet
  std::byte* fresh_end_ = nullptr;
  std::vector<std::unique_ptr<std::byte[]>> regions_;
};

}  // namespace evlua::lua
