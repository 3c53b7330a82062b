#include "net/http/admission.h"

#include <algorithm>
#include <mutex>

#include "net/http/address_count.h"
#include "net/http/exchange.h"

namespace evlua::http {

namespace {

constexpr Duration kWindow = 100 * kMillisecond;

}  // namespace

bool Admission::admits(Exchange& exchange, Instant now) noexcept {
  const Duration waited = now - exchange.came();
  if (waited <= calm_) {
    if (late_since_.load(std::memory_order_relaxed) != kNever) late_since_.store(kNever, std::memory_order_relaxed);
    if (overloaded_.load(std::memory_order_relaxed)) overloaded_.store(false, std::memory_order_relaxed);
    return true;
  }
  return admits_late(exchange, now, waited);
}

bool Admission::admits_late(Exchange& exchange, Instant now, Duration waited) noexcept {
  if (overloaded_.load(std::memory_order_relaxed)) {
    const std::uint64_t network = exchange.client_network();
    const std::lock_guard guard(lock_);
    if (waited > patience_with(network, now)) return false;
    ++admitted_[NetworkHash()(network) % kBuckets];
    ++admitted_all_;
    return true;
  }
  if (waited <= options_.target) {
    late_since_.store(kNever, std::memory_order_relaxed);
    return true;
  }
  const Instant since = late_since_.load(std::memory_order_relaxed);
  if (since == kNever) {
    late_since_.store(now, std::memory_order_relaxed);
  } else if (now - since >= 2 * options_.target) {
    overloaded_.store(true, std::memory_order_relaxed);
    return false;
  }
  return true;
}

/// How long that client's request may have waited.
Duration Admission::patience_with(std::uint64_t network, Instant now) noexcept {
  if (now >= window_ends_) begin_window(now);
  if (share_ == 0) return options_.target;
  return admitted_[NetworkHash()(network) % kBuckets] >= share_ ? options_.target / 2 : options_.target * 2;
}

void Admission::begin_window(Instant now) noexcept {
  const auto clients = static_cast<std::uint32_t>(
      std::count_if(admitted_.begin(), admitted_.end(), [](std::uint32_t count) { return count != 0; }));
  const bool recent = now < deadline_after(window_ends_, kWindow);
  share_ = recent && clients > 1 ? std::max(admitted_all_ / clients, 1U) : 0;
  admitted_.fill(0);
  admitted_all_ = 0;
  window_ends_ = deadline_after(now, kWindow);
}

bool Admission::enter_queue() noexcept {
  if (queued_.fetch_add(1, std::memory_order_relaxed) < options_.queue_max) return true;
  leave_queue();
  return false;
}

}  // namespace evlua::http
