// Goal: buffers and coroutine frames given back on any thread come back into use: none lost, none lent twice, and no
// growth without end.
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/check.h"
#include "core/frame_pool.h"
#include "core/lockfree/mpmc_queue.h"
#include "tests/support/doctest.h"

namespace evlua {
namespace {

/// A source as a backend would be: lends ids from a free list.
class PlainSource final : public BufferSource {
 public:
  PlainSource() {
    for (std::uint16_t id = kBufferCount; id-- > 0;) free_.push_back(id);
    bind_to_this_thread();
  }

  /// kNoBuffer when all are lent.
  std::uint16_t lend() {
    if (free_.empty()) return kNoBuffer;
    const std::uint16_t id = free_.back();
    free_.pop_back();
    note_lent();
    return id;
  }

  Lease lend_lease(std::uint32_t size) {
    const std::uint16_t id = lend();
    return Lease(this, id, data(id), size);
  }

  std::size_t free_count() const { return free_.size(); }
  std::set<std::uint16_t> free_ids() const { return {free_.begin(), free_.end()}; }

 private:
  void recycle(std::uint16_t id) noexcept override { free_.push_back(id); }

  std::vector<std::uint16_t> free_;
};

TEST_CASE("buffers that were never lent take no memory") {
  PlainSource source;
  constexpr std::size_t kBytes = std::size_t{BufferSource::kBufferBytes} * BufferSource::kBufferCount;
  std::vector<unsigned char> resident(kBytes / 4096);
  REQUIRE(::mincore(source.data(0), kBytes, resident.data()) == 0);
  std::size_t pages = 0;
  for (unsigned char page : resident) pages += page & 1u;
  CHECK(pages == 0);
  std::memset(source.data(7), 1, BufferSource::kBufferBytes);
  REQUIRE(::mincore(source.data(0), kBytes, resident.data()) == 0);
  for (unsigned char page : resident) pages += page & 1u;
  CHECK(pages == BufferSource::kBufferBytes / 4096);
}

TEST_CASE("a lease gives its buffer back once, wherever it was moved") {
  PlainSource source;
  {
    Lease first = source.lend_lease(10);
    CHECK(first.size() == 10);
    CHECK(source.lent() == 1);
    Lease second(std::move(first));
    CHECK(first.empty());
    Lease third;
    third = std::move(second);
    CHECK(third.bytes().size() == 10);
    CHECK(source.lent() == 1);
    third = source.lend_lease(5);  // gives back what it held
    CHECK(source.lent() == 1);
    third.reset();
    third.reset();
    CHECK(source.lent() == 0);
  }
  CHECK(source.free_ids().size() == BufferSource::kBufferCount);
}

TEST_CASE("a finished recv hands its buffer over as a lease") {
  PlainSource source;
  Op op(OpCode::recv, 1);

  op.buffer = source.lend();
  std::memcpy(source.data(op.buffer), "hello", 5);
  op.res = 5;
  Lease lease = Lease::from(op, source);
  CHECK(std::string_view(lease.chars(), lease.size()) == "hello");
  CHECK(op.buffer == kNoBuffer);
  CHECK(Lease::from(op, source).empty());  // handed over once
  lease.reset();
  CHECK(source.lent() == 0);

  SUBCASE("an end of stream or a failure gives the buffer back") {
    for (const int result : {0, -104}) {
      op.buffer = source.lend();
      op.res = result;
      CHECK(Lease::from(op, source).empty());
      CHECK(source.lent() == 0);
    }
  }
  SUBCASE("a buffer from the heap is freed, received into or not") {
    for (const int result : {3, -104}) {
      op.buffer = kHeapBuffer;
      op.args.recv.data = std::calloc(1, 16);
      op.res = result;
      CHECK(Lease::from(op, source).size() == (result > 0 ? 3 : 0));  // the leak checker watches
    }
  }
  SUBCASE("the caller's own memory is none of our business") {
    char memory[4];
    op.args.recv.data = memory;
    op.res = 4;
    CHECK(Lease::from(op, source).empty());
  }
  CHECK(source.free_count() == BufferSource::kBufferCount);
}

TEST_CASE("what foreign threads give back waits for the owner to reclaim it") {
  PlainSource source;
  Lease one = source.lend_lease(1);
  Lease two = source.lend_lease(1);
  std::thread([one = std::move(one), two = std::move(two)] {}).join();
  CHECK(source.lent() == 2);
  CHECK(source.reclaim());
  CHECK(source.lent() == 0);
  CHECK_FALSE(source.reclaim());
  CHECK(source.free_ids().size() == BufferSource::kBufferCount);
}

TEST_CASE("buffers given back by several threads while the owner lends are neither lost nor lent twice") {
  PlainSource source;
  MpmcQueue<std::uint16_t> lent(BufferSource::kBufferCount);
  std::atomic<bool> done{false};
  std::atomic<int> doubled{0};
  std::array<std::atomic<bool>, BufferSource::kBufferCount> in_use{};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (true) {
        const bool last_round = done.load();
        while (const auto id = lent.try_pop()) {
          if (!in_use[*id].exchange(false)) doubled.fetch_add(1);
          source.release(*id);
        }
        if (last_round) return;
        std::this_thread::yield();
      }
    });
  }
  for (int lends = 0; lends < 50'000;) {
    const std::uint16_t id = source.lend();
    if (id == kNoBuffer) {
      if (!source.reclaim()) std::this_thread::yield();
      continue;
    }
    ++lends;
    if (in_use[id].exchange(true)) doubled.fetch_add(1);
    while (!lent.try_push(id)) std::this_thread::yield();
  }
  done.store(true);
  for (std::thread& thread : threads) thread.join();
  source.reclaim();
  CHECK(doubled.load() == 0);
  CHECK(source.lent() == 0);
  CHECK(source.free_ids().size() == BufferSource::kBufferCount);
}

TEST_CASE("frames of every size are writable, aligned, distinct and counted") {
  const std::int64_t before = frame_pool_live();
  std::vector<std::pair<void*, std::size_t>> frames;
  for (std::size_t size = 1; size < 6000; size += 7) {
    void* frame = frame_allocate(size);
    CHECK(reinterpret_cast<std::uintptr_t>(frame) % alignof(std::max_align_t) == 0);
    std::memset(frame, static_cast<int>(size % 251), size);
    frames.emplace_back(frame, size);
  }
  CHECK(frame_pool_live() - before == static_cast<std::int64_t>(frames.size()));
  std::size_t damaged = 0;
  for (const auto& [frame, size] : frames) {
    const auto* bytes = static_cast<const unsigned char*>(frame);
    damaged += bytes[0] != size % 251 || bytes[size - 1] != size % 251 ? 1u : 0u;
    frame_free(frame, size);
  }
  CHECK(damaged == 0);
  CHECK(frame_pool_live() == before);
}

/// One thread allocates, others free: nobody must grow without end, and the sums must come out even.
TEST_CASE("frames freed on other threads come back to the one that allocates") {
  constexpr std::size_t kBytes = 256;
  constexpr int kFrames = 200'000;
  const std::int64_t before = frame_pool_live();
  MpmcQueue<void*> channel(1024);
  std::atomic<bool> done{false};
  std::atomic<int> damaged{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (true) {
        const bool last_round = done.load();
        while (const auto frame = channel.try_pop()) {
          if (*static_cast<void**>(*frame) != *frame) damaged.fetch_add(1);
          frame_free(*frame, kBytes);
        }
        if (last_round) return;
        std::this_thread::yield();
      }
    });
  }
  std::set<void*> addresses;
  for (int i = 0; i < kFrames; ++i) {
    void* frame = frame_allocate(kBytes);
    *static_cast<void**>(frame) = frame;
    if (i % 16 == 0) addresses.insert(frame);
    while (!channel.try_push(frame)) std::this_thread::yield();
  }
  done.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(damaged.load() == 0);
  CHECK(frame_pool_live() == before);
  CHECK(frame_pool_depot_bytes() < 16u * 1024 * 1024);
  // At most the channel and a few magazines per thread. (AddressSanitizer keeps freed memory back, on purpose.)
  if (!EVLUA_ASAN) CHECK(addresses.size() < 8192);
}

TEST_CASE("the depot keeps no more than its limit") {
  constexpr std::size_t kClassLimit = 8u * 1024 * 1024;
  const std::size_t before = frame_pool_depot_bytes();
  std::vector<void*> frames;
  for (int i = 0; i < 20'000; ++i) frames.push_back(frame_allocate(1000));
  for (void* frame : frames) frame_free(frame, 1000);
  const std::size_t after = frame_pool_depot_bytes();
  CHECK(after <= before + kClassLimit);
  if (!EVLUA_ASAN) CHECK(after >= before + kClassLimit / 2);
}

/// A frame that a thread_local object frees after the pool's own guard of that thread is gone.
struct LateOwner {
  void* frame = nullptr;
  ~LateOwner() { frame_free(frame, 100); }
};

TEST_CASE("a frame may be freed while its thread ends, after the thread's cache is gone") {
  const std::int64_t before = frame_pool_live();
  std::thread([] {
    thread_local LateOwner owner;  // constructed before the pool is used here, hence destroyed after its guard
    owner.frame = nullptr;
    owner.frame = frame_allocate(100);
  }).join();
  CHECK(frame_pool_live() == before);
}

LateOwner freed_at_exit;

TEST_CASE("a frame may be freed by a static destructor") {
  freed_at_exit.frame = frame_allocate(100);  // the sanitisers watch the end of the process
  CHECK(freed_at_exit.frame != nullptr);
}

TEST_CASE("threads that end leave their frames to others") {
  const std::int64_t before = frame_pool_live();
  for (int i = 0; i < 50; ++i) {
    std::thread([] {
      std::vector<void*> frames;
      for (int n = 0; n < 100; ++n) frames.push_back(frame_allocate(3000));
      for (void* frame : frames) frame_free(frame, 3000);
    }).join();
  }
  CHECK(frame_pool_live() == before);
  CHECK(frame_pool_depot_bytes() < 24u * 1024 * 1024);
}

}  // namespace
}  // namespace evlua
