// Memory for one Lua state: small blocks from pages of blocks of one size, since Lua tells every block's size when it
// gives one back and so no block needs a header. Larger ones come from malloc.
//
// Pages begin at multiples of their size: that is how a block finds its page. A page without blocks serves any size,
// and a chunk of such pages goes back to malloc. What is bounded is what is held, used or not.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/intrusive.h"
#include "core/own_counter.h"

namespace evlua::lua {

/// Not thread-safe: it follows its Lua state from worker to worker.
class Allocator {
 public:
  Allocator() = default;
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  /// As lua_Alloc wants it: `old_size` is exact, and 0 without a block; a `new_size` of 0 frees. Shrinking never fails.
  void* resize(void* block, std::size_t old_size, std::size_t new_size) noexcept;

  /// A block of malloc, larger than small ones are, is held from now on, as if it had been taken here. False: it would
  /// be more than may be held.
  bool adopt(std::size_t size) noexcept;

  /// From now on no more shall be held.
  void set_max(std::size_t bytes) noexcept { max_ = bytes; }
  std::size_t held() const noexcept { return held_; }
  /// [any thread]
  std::uint64_t most_held() const noexcept { return most_held_.value(); }

 private:
  static constexpr std::size_t kGrain = 16;
  static constexpr std::size_t kSmallMax = 256;
  static constexpr std::size_t kClasses = kSmallMax / kGrain;
  static constexpr std::size_t kPageBytes = 16 * 1024;
  static constexpr std::size_t kChunkPagesMin = 16;
  static constexpr std::size_t kChunkPagesMax = 64;
  static constexpr std::size_t kSparePages = 16;  // kept, that a chunk is not got and given back again and again

  struct FreeBlock {
    FreeBlock* next;
  };
  struct Chunk : ListNode {
    std::size_t pages = 0;
    std::size_t begun = 0;  // pages that have been used; the others are not touched
    std::size_t used = 0;   // pages that have blocks
    std::size_t bytes = 0;
    std::byte* first = nullptr;
  };
  struct Page : ListNode {
    FreeBlock* free = nullptr;
    std::byte* fresh = nullptr;  // what no block has been cut from yet
    std::uint32_t block_bytes = 0;
    std::uint32_t used = 0;
    bool full = false;
    Chunk* chunk = nullptr;
  };
  /// A large block that had to become a small one when there was no memory for it: this is where none of its bytes are.
  struct Stray {
    Stray* next;
  };

  static std::size_t class_of(std::size_t size) noexcept { return (size - 1) / kGrain; }
  static Page& page_of(void* block) noexcept {
    return *reinterpret_cast<Page*>(reinterpret_cast<std::uintptr_t>(block) & ~std::uintptr_t{kPageBytes - 1});
  }

  void* take(std::size_t size) noexcept;
  void* take_elsewhere(std::size_t of_class) noexcept;
  void give_back(void* block) noexcept;
  void page_changed(Page& page) noexcept;
  Page* new_page(std::size_t block_bytes) noexcept;
  bool add_chunk() noexcept;
  void remove_chunk(Chunk& chunk) noexcept;
  void* resize_large(void* block, std::size_t old_size, std::size_t new_size) noexcept;
  void* move(void* block, std::size_t old_size, std::size_t new_size) noexcept;
  void* keep_stray(void* block) noexcept;
  bool free_stray(void* block) noexcept;

  std::array<Page*, kClasses> current_ = {};  // a block is taken from it, if it has one
  std::array<List<Page>, kClasses> others_;   // that have some
  List<Page> empty_;
  std::size_t empty_count_ = 0;
  List<Chunk> chunks_;
  Chunk* newest_ = nullptr;
  Stray* strays_ = nullptr;
  std::size_t held_ = 0;
  OwnPeak most_held_;
  std::size_t max_ = SIZE_MAX;
};

}  // namespace evlua::lua
