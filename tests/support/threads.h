// Threads for stress tests.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

namespace evlua::test {

/// Runs `body(thread)` on so many threads, starting together, and waits for them.
template <class Body>
void on_threads(int count, Body body) {
  std::vector<std::thread> threads;
  std::atomic<int> missing{count};
  for (int thread = 0; thread < count; ++thread) {
    threads.emplace_back([&body, &missing, thread] {
      missing.fetch_sub(1);
      while (missing.load() != 0) std::this_thread::yield();
      body(thread);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace evlua::test
