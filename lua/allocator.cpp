#include "lua/allocator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "core/check.h"

namespace evlua::lua {

namespace {

/// The sanitizers see single blocks only when every one comes from malloc.
constexpr bool kPooled = !EVLUA_ASAN && !EVLUA_TSAN;

}  // namespace

void* Allocator::resize(void* block, std::size_t old_size, std::size_t new_size) noexcept {
  const bool was_small = kPooled && block != nullptr && old_size <= kSmallMax;
  const bool is_small = kPooled && new_size != 0 && new_size <= kSmallMax;
  if (block == nullptr) {
    if (new_size == 0) return nullptr;
    return is_small ? take(new_size) : std::malloc(new_size);
  }
  if (new_size == 0) {
    if (was_small) {
      give_back(block, old_size);
    } else {
      std::free(block);
    }
    return nullptr;
  }
  if (!was_small && !is_small) return std::realloc(block, new_size);
  if (was_small && is_small && class_of(old_size) == class_of(new_size)) return block;

  void* moved = is_small ? take(new_size) : std::malloc(new_size);
  // A block may be larger than its class says.
  if (moved == nullptr) return new_size <= old_size ? block : nullptr;
  std::memcpy(moved, block, std::min(old_size, new_size));
  (void)resize(block, old_size, 0);
  return moved;
}

void* Allocator::take(std::size_t size) noexcept {
  FreeBlock*& list = free_[class_of(size)];
  if (list == nullptr) [[unlikely]]
    return carve((class_of(size) + 1) * kGrain);
  return std::exchange(list, list->next);
}

void Allocator::give_back(void* block, std::size_t size) noexcept {
  FreeBlock*& list = free_[class_of(size)];
  list = new (block) FreeBlock{list};
}

void* Allocator::carve(std::size_t size) noexcept {
  if (static_cast<std::size_t>(fresh_end_ - fresh_) < size) {
    // What is left of the old region serves a smaller class.
    if (fresh_ != fresh_end_) give_back(fresh_, static_cast<std::size_t>(fresh_end_ - fresh_));
    fresh_ = fresh_end_ = nullptr;
    try {
      regions_.push_back(std::make_unique_for_overwrite<std::byte[]>(kRegionBytes));
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    fresh_ = regions_.back().get();
    fresh_end_ = fresh_ + kRegionBytes;
  }
  return std::exchange(fresh_, fresh_ + size);
}

}  // namespace evlua::lua
