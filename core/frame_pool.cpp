// Magazines: a magazine is a chain of free frames of one class, at most `magazine_frames` long. A thread works on one
// (`active`) and keeps a second that is either full or absent (`spare`), so that allocating and freeing in turns at a
// boundary never runs to the depot each time.
//
// Order of destruction: the caches are plain thread_local data without a destructor, hence usable until the thread's
// storage is gone. A separate guard object flushes them when the thread ends; frames freed after that, by destructors
// that run later, bypass the cache. Depot and registry are constant-initialised and never destroyed.
#include "core/frame_pool.h"

#include <array>
#include <atomic>
#include <mutex>
#include <new>

#include "core/check.h"
#include "core/lockfree/spin_lock.h"

namespace evlua {
namespace {

constexpr bool kFramesFromHeap = EVLUA_ASAN != 0;

constexpr std::array<std::size_t, 13> kClassBytes{64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
constexpr std::size_t kClasses = kClassBytes.size();
constexpr std::size_t kLargest = kClassBytes.back();
constexpr std::size_t kGranule = 32;
constexpr std::size_t kMagazineBytes = 16 * 1024;
constexpr std::size_t kDepotBytesMax = 8 * 1024 * 1024;  // per class

/// Class by size in granules, rounded up.
constexpr auto kClassOf = [] {
  std::array<std::uint8_t, kLargest / kGranule + 1> table{};
  for (std::size_t granules = 0; granules < table.size(); ++granules) {
    std::uint8_t index = 0;
    while (kClassBytes[index] < granules * kGranule) ++index;
    table[granules] = index;
  }
  return table;
}();

constexpr std::size_t class_of(std::size_t size) noexcept { return kClassOf[(size + kGranule - 1) / kGranule]; }

/// At most 256 small frames, at least 8 large ones.
constexpr std::uint32_t magazine_frames(std::size_t index) noexcept {
  const std::size_t frames = kMagazineBytes / kClassBytes[index];
  return static_cast<std::uint32_t>(frames < 8 ? 8 : frames);
}

/// What a free frame's memory holds.
struct FreeFrame {
  FreeFrame* next;
  FreeFrame* next_magazine;  // in the first frame of a magazine that is in the depot
  std::uint32_t count;       // likewise: frames in this magazine
};
static_assert(sizeof(FreeFrame) <= kClassBytes[0]);

struct Magazine {
  FreeFrame* head = nullptr;
  std::uint32_t count = 0;
};

void delete_all(FreeFrame* frame) noexcept {
  while (frame != nullptr) {
    FreeFrame* following = frame->next;
    ::operator delete(frame);
    frame = following;
  }
}

struct Depot {
  BasicSpinLock<PlainAtomics> lock;
  FreeFrame* magazines = nullptr;
  std::size_t frames = 0;
};
constinit std::array<Depot, kClasses> depots;

void put_in_depot(std::size_t index, Magazine magazine) noexcept {
  if (magazine.head == nullptr) return;
  Depot& depot = depots[index];
  {
    std::lock_guard guard(depot.lock);
    if ((depot.frames + magazine.count) * kClassBytes[index] <= kDepotBytesMax) {
      magazine.head->next_magazine = depot.magazines;
      magazine.head->count = magazine.count;
      depot.magazines = magazine.head;
      depot.frames += magazine.count;
      return;
    }
  }
  delete_all(magazine.head);
}

Magazine take_from_depot(std::size_t index) noexcept {
  Depot& depot = depots[index];
  std::lock_guard guard(depot.lock);
  FreeFrame* first = depot.magazines;
  if (first == nullptr) return {};
  depot.magazines = first->next_magazine;
  depot.frames -= first->count;
  return {first, first->count};
}

/// The free frames and the accounts of one thread.
struct Cache {
  enum class Stage : std::uint8_t { fresh, in_use, flushed };

  struct Class {
    Magazine active;
    Magazine spare;  // full or absent
  };

  std::array<Class, kClasses> classes{};
  // Allocated minus freed on this thread; negative where foreign frames are freed. Written by this thread only, read
  // by frame_pool_live: relaxed, since that promises an exact sum only at rest.
  std::atomic<std::int64_t> live{0};
  Cache* next = nullptr;  // in the registry
  Cache* previous = nullptr;
  Stage stage = Stage::fresh;

  void count(std::int64_t change) noexcept {
    live.store(live.load(std::memory_order_relaxed) + change, std::memory_order_relaxed);
  }
};
thread_local constinit Cache this_cache;

/// All caches in use, so that they can be summed, and what the threads that ended had counted.
struct Registry {
  BasicSpinLock<PlainAtomics> lock;
  Cache* first = nullptr;
  std::atomic<std::int64_t> retired{0};
};
constinit Registry registry;

void enrol(Cache& cache) noexcept {
  std::lock_guard guard(registry.lock);
  cache.next = registry.first;
  if (cache.next != nullptr) cache.next->previous = &cache;
  registry.first = &cache;
}

void flush(Cache& cache) noexcept {
  cache.stage = Cache::Stage::flushed;
  for (std::size_t index = 0; index < kClasses; ++index) {
    Cache::Class& frames = cache.classes[index];
    put_in_depot(index, frames.active);
    put_in_depot(index, frames.spare);
    frames = {};
  }
  std::lock_guard guard(registry.lock);
  (cache.previous == nullptr ? registry.first : cache.previous->next) = cache.next;
  if (cache.next != nullptr) cache.next->previous = cache.previous;
  registry.retired.fetch_add(cache.live.load(std::memory_order_relaxed), std::memory_order_relaxed);
  cache.live.store(0, std::memory_order_relaxed);
}

struct Guard {
  Guard() noexcept { enrol(this_cache); }
  ~Guard() { flush(this_cache); }
  void hold() noexcept {}
};

/// Opens the cache on a thread's first frame. False when the thread is ending and its cache is gone.
bool open_cache(Cache& cache) noexcept {
  if (cache.stage == Cache::Stage::flushed) return false;
  thread_local Guard guard;
  guard.hold();
  cache.stage = Cache::Stage::in_use;
  return true;
}

bool usable(Cache& cache) noexcept { return cache.stage == Cache::Stage::in_use || open_cache(cache); }

/// Adds to this thread's account, or to the common one when the thread is ending.
void count(Cache& cache, bool cached, std::int64_t change) noexcept {
  if (cached) {
    cache.count(change);
  } else {
    registry.retired.fetch_add(change, std::memory_order_relaxed);
  }
}

[[gnu::noinline]] void* refill(Cache::Class& frames, std::size_t index) {
  if (frames.spare.head != nullptr) {
    frames.active = frames.spare;
    frames.spare = {};
  } else {
    frames.active = take_from_depot(index);
  }
  FreeFrame* frame = frames.active.head;
  if (frame == nullptr) return ::operator new(kClassBytes[index]);
  frames.active.head = frame->next;
  --frames.active.count;
  return frame;
}

[[gnu::noinline]] void spill(Cache::Class& frames, std::size_t index) noexcept {
  put_in_depot(index, frames.spare);
  frames.spare = frames.active;
  frames.active = {};
}

}  // namespace

// Not inlined, with link-time optimisation either: clang 14 may otherwise keep the address of the thread's cache in a
// coroutine across a suspension, after which the coroutine can be on another thread.
[[gnu::noinline]] void* frame_allocate(std::size_t size) {
  Cache& cache = this_cache;
  const bool cached = usable(cache);
  void* memory = nullptr;
  if (kFramesFromHeap || size > kLargest) {
    memory = ::operator new(size);
  } else if (const std::size_t index = class_of(size); !cached) {
    memory = ::operator new(kClassBytes[index]);
  } else if (Cache::Class& frames = cache.classes[index]; frames.active.head != nullptr) {
    FreeFrame* frame = frames.active.head;
    frames.active.head = frame->next;
    --frames.active.count;
    memory = frame;
  } else {
    memory = refill(frames, index);
  }
  count(cache, cached, 1);
  return memory;
}

[[gnu::noinline]] void frame_free(void* memory, std::size_t size) noexcept {
  EVLUA_DCHECK(memory != nullptr);
  Cache& cache = this_cache;
  const bool cached = usable(cache);
  count(cache, cached, -1);
  if (kFramesFromHeap || size > kLargest || !cached) {
    ::operator delete(memory);
    return;
  }
  const std::size_t index = class_of(size);
  Cache::Class& frames = cache.classes[index];
  if (frames.active.count == magazine_frames(index)) spill(frames, index);
  auto* frame = static_cast<FreeFrame*>(memory);
  frame->next = frames.active.head;
  frames.active.head = frame;
  ++frames.active.count;
}

std::int64_t frame_pool_live() noexcept {
  std::lock_guard guard(registry.lock);
  std::int64_t sum = registry.retired.load(std::memory_order_relaxed);
  for (const Cache* cache = registry.first; cache != nullptr; cache = cache->next) {
    sum += cache->live.load(std::memory_order_relaxed);
  }
  return sum;
}

std::size_t frame_pool_depot_bytes() noexcept {
  std::size_t bytes = 0;
  for (std::size_t index = 0; index < kClasses; ++index) {
    std::lock_guard guard(depots[index].lock);
    bytes += depots[index].frames * kClassBytes[index];
  }
  return bytes;
}

}  // namespace evlua
