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

constexpr std::size_t kHeader = 64;  // of a page

}  // namespace

Allocator::~Allocator() {
  for (List<Page>& pages : others_) {
    while (pages.pop_front() != nullptr) {
    }
  }
  while (empty_.pop_front() != nullptr) {
  }
  while (Chunk* chunk = chunks_.pop_front()) std::free(chunk);
}

void* Allocator::resize(void* block, std::size_t old_size, std::size_t new_size) noexcept {
  const bool was_small = kPooled && block != nullptr && old_size <= kSmallMax;
  const bool is_small = kPooled && new_size != 0 && new_size <= kSmallMax;
  if (block == nullptr) {
    if (new_size == 0) return nullptr;
    return is_small ? take(new_size) : resize_large(nullptr, 0, new_size);
  }
  if (new_size == 0) {
    if (was_small) {
      give_back(block);
    } else {
      held_ -= old_size;
      std::free(block);
    }
    return nullptr;
  }
  if (!was_small && !is_small) return resize_large(block, old_size, new_size);
  if (was_small && is_small && class_of(old_size) == class_of(new_size)) return block;

  if (new_size > old_size) return move(block, old_size, new_size);
  const std::size_t max = std::exchange(max_, SIZE_MAX);
  void* moved = move(block, old_size, new_size);
  max_ = max;
  if (moved != nullptr) return moved;
  if (was_small) return block;  // it may be larger than its size says
  held_ -= old_size;
  return keep_stray(block);
}

void* Allocator::move(void* block, std::size_t old_size, std::size_t new_size) noexcept {
  void* moved = resize(nullptr, 0, new_size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, block, std::min(old_size, new_size));
  (void)resize(block, old_size, 0);
  return moved;
}

void* Allocator::resize_large(void* block, std::size_t old_size, std::size_t new_size) noexcept {
  if (new_size > old_size && (held_ > max_ || new_size - old_size > max_ - held_)) return nullptr;
  void* resized = std::realloc(block, new_size);
  if (resized != nullptr) {
    held_ += new_size - old_size;  // wraps as it should
    most_held_.note(held_);
  } else if (new_size <= old_size) {
    return block;
  }
  return resized;
}

bool Allocator::adopt(std::size_t size) noexcept {
  if (held_ > max_ || size > max_ - held_) return false;
  held_ += size;
  most_held_.note(held_);
  return true;
}

// -- blocks ---------------------------------------------------------------------------------------------------------

void* Allocator::take(std::size_t size) noexcept {
  Page* page = current_[class_of(size)];
  if (page == nullptr || page->free == nullptr) [[unlikely]]
    return take_elsewhere(class_of(size));
  ++page->used;
  return std::exchange(page->free, page->free->next);
}

void* Allocator::take_elsewhere(std::size_t of_class) noexcept {
  const std::size_t size = (of_class + 1) * kGrain;
  Page*& page = current_[of_class];
  const auto has_fresh = [size](Page& looked_at) {
    return looked_at.fresh + size <= reinterpret_cast<std::byte*>(&looked_at) + kPageBytes;
  };
  if (page == nullptr || !has_fresh(*page)) {
    Page* next = others_[of_class].pop_front();
    if (next == nullptr) next = new_page(size);
    if (next == nullptr) return nullptr;
    if (page != nullptr) page->full = true;
    next->full = false;
    page = next;
  }
  ++page->used;
  if (page->free != nullptr) return std::exchange(page->free, page->free->next);
  return std::exchange(page->fresh, page->fresh + size);
}

void Allocator::give_back(void* block) noexcept {
  if (strays_ != nullptr && free_stray(block)) [[unlikely]]
    return;
  Page& page = page_of(block);
  page.free = new (block) FreeBlock{page.free};
  if (--page.used == 0 || page.full) [[unlikely]]
    page_changed(page);
}

/// It has a block again, or it has none that is used.
void Allocator::page_changed(Page& page) noexcept {
  const std::size_t of_class = class_of(page.block_bytes);
  if (page.used != 0) {
    page.full = false;
    others_[of_class].push_back(page);
    return;
  }
  if (page.linked()) List<Page>::erase(page);
  if (&page == current_[of_class]) current_[of_class] = nullptr;
  Chunk& chunk = *page.chunk;
  empty_.push_back(page);
  ++empty_count_;
  if (--chunk.used == 0 && empty_count_ >= chunk.begun + kSparePages) remove_chunk(chunk);
}

// -- pages ----------------------------------------------------------------------------------------------------------

Allocator::Page* Allocator::new_page(std::size_t block_bytes) noexcept {
  Page* page = empty_.pop_front();
  if (page != nullptr) {
    --empty_count_;
  } else {
    if ((newest_ == nullptr || newest_->begun == newest_->pages) && !add_chunk()) return nullptr;
    static_assert(sizeof(Page) <= kHeader);
    page = new (newest_->first + newest_->begun++ * kPageBytes) Page;
    page->chunk = newest_;
  }
  ++page->chunk->used;
  page->free = nullptr;
  page->fresh = reinterpret_cast<std::byte*>(page) + kHeader;
  page->block_bytes = static_cast<std::uint32_t>(block_bytes);
  return page;
}

bool Allocator::add_chunk() noexcept {
  const std::size_t pages = std::clamp(held_ / 8 / kPageBytes, kChunkPagesMin, kChunkPagesMax);
  const std::size_t bytes = (pages + 1) * kPageBytes + sizeof(Chunk);
  if (held_ > max_ || bytes > max_ - held_) return false;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) return false;
  held_ += bytes;
  most_held_.note(held_);
  auto* chunk = new (memory) Chunk;
  chunk->pages = pages;
  chunk->bytes = bytes;
  const auto after = reinterpret_cast<std::uintptr_t>(chunk + 1) + kPageBytes - 1;
  chunk->first = reinterpret_cast<std::byte*>(after & ~std::uintptr_t{kPageBytes - 1});
  chunks_.push_back(*chunk);
  newest_ = chunk;
  return true;
}

/// REQUIRES: no page of it is used.
void Allocator::remove_chunk(Chunk& chunk) noexcept {
  for (std::size_t i = 0; i < chunk.begun; ++i) {
    List<Page>::erase(*reinterpret_cast<Page*>(chunk.first + i * kPageBytes));
  }
  empty_count_ -= chunk.begun;
  if (newest_ == &chunk) newest_ = nullptr;
  held_ -= chunk.bytes;
  List<Chunk>::erase(chunk);
  std::free(&chunk);
}

// -- strays ---------------------------------------------------------------------------------------------------------

void* Allocator::keep_stray(void* block) noexcept {
  strays_ = new (static_cast<std::byte*>(block) + kSmallMax) Stray{strays_};
  return block;
}

bool Allocator::free_stray(void* block) noexcept {
  for (Stray** place = &strays_; *place != nullptr; place = &(*place)->next) {
    if (reinterpret_cast<std::byte*>(*place) != static_cast<std::byte*>(block) + kSmallMax) continue;
    *place = (*place)->next;
    std::free(block);
    return true;
  }
  return false;
}

}  // namespace evlua::lua
