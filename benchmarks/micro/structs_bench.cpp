// What the structures under the scheduler cost: per operation, uncontended, and with several threads where they meet.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "core/deque.h"
#include "core/frame_pool.h"
#include "core/inbox.h"
#include "core/lockfree/futex_mutex.h"
#include "core/lockfree/mpmc_queue.h"
#include "core/lockfree/mpsc_queue.h"
#include "core/lockfree/rw_lock.h"
#include "core/lockfree/spin_lock.h"
#include "core/lockfree/stack.h"
#include "core/timer_heap.h"

namespace evlua {
namespace {

constexpr int kBatch = 64;

void per_item(benchmark::State& state, std::int64_t items_per_iteration) {
  state.SetItemsProcessed(state.iterations() * items_per_iteration);
}

void deque_push_take(benchmark::State& state) {
  StealingDeque<> deque;
  std::vector<Runnable> work(kBatch);
  for (auto _ : state) {
    for (Runnable& item : work) benchmark::DoNotOptimize(deque.push(item));
    for (int i = 0; i < kBatch; ++i) benchmark::DoNotOptimize(deque.take());
  }
  per_item(state, kBatch);
}
BENCHMARK(deque_push_take);

void deque_push_steal_half(benchmark::State& state) {
  StealingDeque<> deque, thief;
  std::vector<Runnable> work(kBatch);
  for (auto _ : state) {
    for (Runnable& item : work) benchmark::DoNotOptimize(deque.push(item));
    while (deque.steal_half_into(thief) != nullptr) {
      while (thief.take() != nullptr) {
      }
    }
  }
  per_item(state, kBatch);
}
BENCHMARK(deque_push_steal_half);

void inbox_post_take(benchmark::State& state) {
  Inbox inbox;
  std::vector<Runnable> work(kBatch);
  for (auto _ : state) {
    for (Runnable& item : work) benchmark::DoNotOptimize(inbox.post(item));
    benchmark::DoNotOptimize(inbox.take_all());
  }
  per_item(state, kBatch);
}
BENCHMARK(inbox_post_take);

/// A heap of constant size: the earliest fires and is queued again, as timers that fire do.
void heap_pop_insert(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  std::vector<TimerNode> nodes(size);
  std::minstd_rand random(1);
  TimerHeap heap;
  for (TimerNode& node : nodes) {
    node.deadline = static_cast<Instant>(random());
    heap.insert(node);
  }
  for (auto _ : state) {
    TimerNode* node = heap.pop_due(kNever);
    node->deadline += static_cast<Instant>(random());
    heap.insert(*node);
  }
  for (TimerNode& node : nodes) heap.erase(node);
  per_item(state, 1);
}
BENCHMARK(heap_pop_insert)->Arg(1'000)->Arg(1'000'000);

/// As timeouts do that hardly ever fire: queued near the end, taken out again from anywhere.
void heap_insert_erase(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  std::vector<TimerNode> nodes(size);
  TimerHeap heap;
  Instant now = 0;
  for (TimerNode& node : nodes) {
    node.deadline = ++now + kSecond;
    heap.insert(node);
  }
  std::minstd_rand random(1);
  for (auto _ : state) {
    TimerNode& node = nodes[random() % size];
    heap.erase(node);
    node.deadline = ++now + kSecond;
    heap.insert(node);
  }
  for (TimerNode& node : nodes) heap.erase(node);
  per_item(state, 1);
}
BENCHMARK(heap_insert_erase)->Arg(1'000)->Arg(1'000'000);

void mpsc_enqueue_pop(benchmark::State& state) {
  MpscQueue<MpscNode> queue;
  std::vector<MpscNode> nodes(kBatch);
  for (auto _ : state) {
    for (MpscNode& node : nodes) queue.enqueue(node);
    while (queue.try_pop() != nullptr) {
    }
  }
  per_item(state, kBatch);
}
BENCHMARK(mpsc_enqueue_pop);

MpmcQueue<std::uint64_t> shared_queue(1024);

/// Each thread puts one in and takes one out, so the queue neither fills nor runs dry.
void mpmc_push_pop(benchmark::State& state) {
  for (auto _ : state) {
    while (!shared_queue.try_push(std::uint64_t{1})) std::this_thread::yield();
    while (!shared_queue.try_pop()) std::this_thread::yield();
  }
  per_item(state, 1);
}
BENCHMARK(mpmc_push_pop)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

LockFreeStack<std::uint64_t> shared_stack(1024);

void stack_push_pop(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(shared_stack.try_push(std::uint64_t{1}));
    benchmark::DoNotOptimize(shared_stack.try_pop());
  }
  per_item(state, 1);
}
BENCHMARK(stack_push_pop)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

template <class Lock>
void lock_unlock(benchmark::State& state) {
  static Lock lock;
  static std::uint64_t guarded = 0;
  for (auto _ : state) {
    std::lock_guard guard(lock);
    benchmark::DoNotOptimize(++guarded);
  }
  per_item(state, 1);
}
BENCHMARK_TEMPLATE(lock_unlock, SpinLock)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();
BENCHMARK_TEMPLATE(lock_unlock, FutexMutex)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();
BENCHMARK_TEMPLATE(lock_unlock, RwLock)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();
BENCHMARK_TEMPLATE(lock_unlock, std::mutex)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

template <class Lock>
void lock_shared(benchmark::State& state) {
  static Lock lock;
  static std::uint64_t guarded = 7;
  for (auto _ : state) {
    std::shared_lock guard(lock);
    benchmark::DoNotOptimize(guarded);
  }
  per_item(state, 1);
}
BENCHMARK_TEMPLATE(lock_shared, RwLock)->Threads(1)->Threads(2)->UseRealTime();
BENCHMARK_TEMPLATE(lock_shared, std::shared_mutex)->Threads(1)->Threads(2)->UseRealTime();

void frame_allocate_free(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    void* frame = frame_allocate(bytes);
    benchmark::DoNotOptimize(frame);
    frame_free(frame, bytes);
  }
  per_item(state, 1);
}
BENCHMARK(frame_allocate_free)->Arg(200)->Arg(4000)->Arg(10'000);

/// More frames than the thread's magazines hold: every few of them pass through the depot.
void frame_through_depot(benchmark::State& state) {
  std::vector<void*> frames(2'000);
  for (auto _ : state) {
    for (void*& frame : frames) frame = frame_allocate(200);
    for (void* frame : frames) frame_free(frame, 200);
  }
  per_item(state, static_cast<std::int64_t>(frames.size()));
}
BENCHMARK(frame_through_depot);

void operator_new_delete(benchmark::State& state) {
  for (auto _ : state) {
    void* frame = ::operator new(200);
    benchmark::DoNotOptimize(frame);
    ::operator delete(frame);
  }
  per_item(state, 1);
}
BENCHMARK(operator_new_delete);

}  // namespace
}  // namespace evlua
