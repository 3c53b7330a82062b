// The allocator of a Lua state, driven as Lua does, and at random with every byte checked.
#include "lua/allocator.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <lua.hpp>
#include <random>
#include <vector>

#include "core/check.h"
#include "tests/support/doctest.h"

using evlua::lua::Allocator;

namespace {

struct Block {
  unsigned char* data = nullptr;
  std::size_t size = 0;
  unsigned char mark = 0;

  bool is_intact(std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) {
      if (data[i] != mark) return false;
    }
    return true;
  }
};

}  // namespace

TEST_CASE("blocks of every size keep their bytes while others come, grow, shrink and go") {
  Allocator allocator;
  std::mt19937 random(42);
  std::vector<Block> blocks(300);
  for (int step = 0; step < 200000; ++step) {
    Block& block = blocks[random() % blocks.size()];
    const std::size_t wanted = random() % 4 == 0 ? 0 : random() % (random() % 8 == 0 ? 5000 : 300);
    auto* moved = static_cast<unsigned char*>(allocator.resize(block.data, block.size, wanted));
    REQUIRE((moved != nullptr) == (wanted != 0));
    block.data = moved;
    REQUIRE(block.is_intact(std::min(block.size, wanted)));
    REQUIRE(reinterpret_cast<std::uintptr_t>(moved) % alignof(std::max_align_t) == 0);
    block.size = wanted;
    block.mark = static_cast<unsigned char>(step);
    if (wanted != 0) std::memset(moved, block.mark, wanted);
  }
  for (Block& block : blocks) {
    REQUIRE(block.is_intact(block.size));
    CHECK(allocator.resize(block.data, block.size, 0) == nullptr);
  }
}

TEST_CASE("a freed small block is used again") {
  Allocator allocator;
  for (const std::size_t size : {1U, 16U, 17U, 255U, 256U}) {
    void* first = allocator.resize(nullptr, 0, size);
    allocator.resize(first, size, 0);
    void* second = allocator.resize(nullptr, 0, size);
    if (!EVLUA_ASAN && !EVLUA_TSAN) CHECK(second == first);
    allocator.resize(second, size, 0);
  }
}

TEST_CASE("a Lua state lives in it, and its collector gives everything back") {
  struct Counted {
    Allocator allocator;
    std::size_t used = 0;
  } counted;
  lua_State* L = lua_newstate(
      [](void* self, void* block, std::size_t old_size, std::size_t new_size) -> void* {
        auto& memory = *static_cast<Counted*>(self);
        if (block == nullptr) old_size = 0;
        memory.used += new_size - old_size;
        return memory.allocator.resize(block, old_size, new_size);
      },
      &counted);
  REQUIRE(L != nullptr);
  luaL_openlibs(L);
  const int failed = luaL_dostring(L,
                                   "local t = {} for i = 1, 20000 do t[i % 100] = {i, tostring(i), ('x'):rep(i % 600)} "
                                   "end local s = '' for i = 1, 300 do s = s .. i end assert(#s == 792)");
  CHECK_MESSAGE(failed == LUA_OK, lua_tostring(L, -1));
  lua_close(L);
  CHECK(counted.used == 0);
}

namespace {

/// Blocks until there are no more, or `bytes` of them.
std::vector<void*> fill(Allocator& allocator, std::size_t size, std::size_t bytes) {
  std::vector<void*> blocks;
  while (blocks.size() * size < bytes) {
    void* block = allocator.resize(nullptr, 0, size);
    if (block == nullptr) break;
    blocks.push_back(block);
  }
  return blocks;
}

void free_all(Allocator& allocator, std::size_t size, std::vector<void*>& blocks) {
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(size));
  for (void* block : blocks) allocator.resize(block, size, 0);
}

}  // namespace

TEST_CASE("what is freed is given back, and serves blocks of every other size") {
  constexpr std::size_t kBytes = std::size_t{16} << 20;  // far more than what is kept
  Allocator allocator;
  for (std::size_t size = 12; size < 300; size += 16) {
    std::vector<void*> blocks = fill(allocator, size, kBytes);
    CHECK(allocator.held() >= kBytes);
    free_all(allocator, size, blocks);
    CHECK(allocator.held() < kBytes / 4);
  }
}

TEST_CASE("no more than the maximum is held, and nearly all of it can be used") {
  constexpr std::size_t kMax = std::size_t{16} << 20;
  Allocator allocator;
  allocator.set_max(kMax);
  for (std::size_t size = 16; size <= 512; size += 16) {
    std::vector<void*> blocks = fill(allocator, size, 2 * kMax);
    CHECK(allocator.held() <= kMax);
    CHECK(blocks.size() * size > kMax / 4 * 3);
    CHECK(allocator.resize(nullptr, 0, kMax / 4) == nullptr);
    void* shrunk = allocator.resize(blocks.back(), size, 1);
    CHECK(shrunk != nullptr);
    allocator.resize(shrunk, 1, 0);
    blocks.pop_back();
    free_all(allocator, size, blocks);
  }
}
