#include "net/http/admission.h"

#include <algorithm>
#include <mutex>

#include "net/http/address_count.h"
#include "net/http/exchange.h"

namespace evlua::http {

namespace {

constexpr Duration kWindow = kSecond;
constexpr Duration kStrictFor = 10 * kSecond;  // after a refusal
constexpr std::uint64_t kCutWeighs = 64;       // requests whose slice was not: some microseconds beside a millisecond
constexpr double kModest = 0.25;               // of a share

}  // namespace

bool Admission::admits(Exchange& exchange, Instant now, Duration expected, At at) noexcept {
  if (std::max(now - exchange.came(), expected) > options_.target / 2) return admits_late(exchange, now, expected, at);
  in_time(at);
  return true;
}

/// One that comes while others are queued has not waited yet: that says nothing.
void Admission::in_time(At at) noexcept {
  if (late_since_.load(std::memory_order_relaxed) == kNever) return;
  if (at == At::arrival && queued_.load(std::memory_order_relaxed) != 0) return;
  late_since_.store(kNever, std::memory_order_relaxed);
}

bool Admission::admits_late(Exchange& exchange, Instant now, Duration expected, At at) noexcept {
  if (now < strict_until_.load(std::memory_order_relaxed)) return admits_strictly(exchange, now, expected);
  if (std::max(now - exchange.came(), expected) <= options_.target) {
    in_time(at);
    return true;
  }
  const Instant since = late_since_.load(std::memory_order_relaxed);
  if (since == kNever) late_since_.store(now, std::memory_order_relaxed);
  if (since == kNever || now - since < options_.target) return true;
  return admits_strictly(exchange, now, expected);
}

/// It may have to wait for the target, or more or less of it as its client had less or more than its share.
bool Admission::admits_strictly(Exchange& exchange, Instant now, Duration expected) noexcept {
  const std::uint64_t network = exchange.client_network();
  const std::lock_guard guard(lock_);
  const auto [own, share] = account_of(network, now);
  const double ratio = std::min(std::max(share, 1.0) / std::max(own, 1.0), 2.0);
  const auto patience = static_cast<Duration>(static_cast<double>(options_.target) * ratio);
  const Duration waited = now - exchange.came();
  const Duration wait = own < share * kModest ? waited : std::max(waited, expected);
  if (wait <= std::max(patience, options_.target / 2)) return true;
  strict_until_.store(deadline_after(now, kStrictFor), std::memory_order_relaxed);
  return false;
}

void Admission::charge(Exchange& exchange, std::uint32_t cuts) noexcept {
  if (exchange.came() >= strict_until_.load(std::memory_order_relaxed)) return;
  const std::size_t bucket = NetworkHash()(exchange.client_network()) % kBuckets;
  const std::uint64_t weight = 1 + kCutWeighs * cuts;
  const std::lock_guard guard(lock_);
  if (before_.used[bucket] + now_.used[bucket] == 0) ++clients_;
  now_.used[bucket] += weight;
  now_.all += weight;
}

Admission::Account Admission::account_of(std::uint64_t network, Instant now) noexcept {
  if (now >= window_ends_) begin_window(now);
  const auto fading = static_cast<double>(window_ends_ - now) / static_cast<double>(kWindow);
  const auto lately = [fading](std::uint64_t before, std::uint64_t since) {
    return static_cast<double>(before) * fading + static_cast<double>(since);
  };
  const std::size_t bucket = NetworkHash()(network) % kBuckets;
  return {lately(before_.used[bucket], now_.used[bucket]), lately(before_.all, now_.all) / std::max(clients_, 1U)};
}

void Admission::begin_window(Instant now) noexcept {
  const bool recent = now < deadline_after(window_ends_, kWindow);
  before_ = recent ? now_ : Window{};
  now_ = {};
  clients_ = static_cast<unsigned>(
      std::count_if(before_.used.begin(), before_.used.end(), [](std::uint64_t used) { return used != 0; }));
  window_ends_ = deadline_after(now, kWindow);
}

bool Admission::enter_queue() noexcept {
  if (queued_.fetch_add(1, std::memory_order_relaxed) < options_.queue_max) return true;
  leave_queue();
  return false;
}

}  // namespace evlua::http
