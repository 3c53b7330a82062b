#include "net/http/admission.h"

#include <algorithm>
#include <mutex>

#include "net/http/address_count.h"
#include "net/http/exchange.h"

namespace evlua::http {

namespace {

constexpr Duration kWindow = kSecond;
constexpr Duration kStrictFor = 10 * kSecond;  // after a refusal

}  // namespace

bool Admission::admits(Exchange& exchange, Instant now, Duration expected) noexcept {
  const Duration wait = std::max(now - exchange.came(), expected);
  if (wait > options_.target / 2) return admits_late(exchange, now, wait);
  if (late_since_.load(std::memory_order_relaxed) != kNever) late_since_.store(kNever, std::memory_order_relaxed);
  return true;
}

bool Admission::admits_late(Exchange& exchange, Instant now, Duration wait) noexcept {
  if (now < strict_until_.load(std::memory_order_relaxed)) return admits_strictly(exchange, now, wait);
  if (wait <= options_.target) {
    late_since_.store(kNever, std::memory_order_relaxed);
    return true;
  }
  const Instant since = late_since_.load(std::memory_order_relaxed);
  if (since == kNever) late_since_.store(now, std::memory_order_relaxed);
  if (since == kNever || now - since < options_.target) return true;
  return admits_strictly(exchange, now, wait);
}

bool Admission::admits_strictly(Exchange& exchange, Instant now, Duration wait) noexcept {
  const std::uint64_t network = exchange.client_network();
  const std::lock_guard guard(lock_);
  if (wait > patience_with(network, now)) {
    strict_until_.store(deadline_after(now, kStrictFor), std::memory_order_relaxed);
    return false;
  }
  const std::size_t bucket = NetworkHash()(network) % kBuckets;
  if (before_.admitted[bucket] + now_.admitted[bucket] == 0) ++clients_;
  ++now_.admitted[bucket];
  ++now_.all;
  return true;
}

/// How long that client's request may have to wait: the target, or more or less of it as the client had less or more
/// than its share.
Duration Admission::patience_with(std::uint64_t network, Instant now) noexcept {
  if (now >= window_ends_) begin_window(now);
  const auto fading = static_cast<double>(window_ends_ - now) / static_cast<double>(kWindow);
  const auto lately = [fading](std::uint32_t before, std::uint32_t since) { return before * fading + since; };
  const std::size_t bucket = NetworkHash()(network) % kBuckets;
  const double own = lately(before_.admitted[bucket], now_.admitted[bucket]);
  const double share = lately(before_.all, now_.all) / std::max(clients_, 1U);
  const double ratio = std::max(share, 1.0) / std::max(own, 1.0);
  const auto patience = static_cast<Duration>(static_cast<double>(options_.target) * std::min(ratio, 2.0));
  return std::max(patience, options_.target / 2);
}

void Admission::begin_window(Instant now) noexcept {
  const bool recent = now < deadline_after(window_ends_, kWindow);
  before_ = recent ? now_ : Window{};
  now_ = {};
  clients_ = static_cast<unsigned>(
      std::count_if(before_.admitted.begin(), before_.admitted.end(), [](std::uint32_t count) { return count != 0; }));
  window_ends_ = deadline_after(now, kWindow);
}

bool Admission::enter_queue() noexcept {
  if (queued_.fetch_add(1, std::memory_order_relaxed) < options_.queue_max) return true;
  leave_queue();
  return false;
}

}  // namespace evlua::http
