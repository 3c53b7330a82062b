#include "net/http/encoder_place.h"

#include "net/http/address_count.h"

namespace evlua::http {

namespace {

std::atomic<std::uint64_t> all{0};
std::atomic<std::uint64_t> turned_away{0};

/// Outlives every thread.
AddressCount& of_clients() noexcept {
  static auto& count = *new AddressCount;
  return count;
}

}  // namespace

bool EncoderPlace::take(std::atomic<std::uint32_t>& of_worker, std::uint32_t most, std::uint64_t network,
                        std::uint32_t share) noexcept {
  if (held() || refused_) return held();
  const bool fits = of_worker.fetch_add(1, std::memory_order_relaxed) < most;
  if (!fits || (network != 0 && !of_clients().enter(network, share))) {
    of_worker.fetch_sub(1, std::memory_order_relaxed);
    turned_away.fetch_add(1, std::memory_order_relaxed);
    refused_ = true;
    return false;
  }
  of_worker_ = &of_worker;
  network_ = network;
  all.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void EncoderPlace::leave() noexcept {
  refused_ = false;
  if (!held()) return;
  if (network_ != 0) of_clients().leave(network_);
  of_worker_->fetch_sub(1, std::memory_order_relaxed);
  of_worker_ = nullptr;
  all.fetch_sub(1, std::memory_order_relaxed);
}

std::uint64_t EncoderPlace::in_use() noexcept { return all.load(std::memory_order_relaxed); }
std::uint64_t EncoderPlace::refused() noexcept { return turned_away.load(std::memory_order_relaxed); }

}  // namespace evlua::http
