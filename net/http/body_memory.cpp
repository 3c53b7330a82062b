#include "net/http/body_memory.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>

#include "core/lockfree/futex_mutex.h"
#include "net/http/address_count.h"

namespace evlua::http {

struct BodyMemory::Account {
  std::atomic<std::uint64_t> held{0};
  std::uint32_t bodies = 0;  // that point here; under the shard's lock
};

namespace {

/// Clients without bodies take no room.
struct alignas(64) Shard {
  FutexMutex lock;
  std::unordered_map<std::uint64_t, BodyMemory::Account, NetworkHash> accounts;  // which stay where they are
};

std::atomic<std::uint64_t>& all() noexcept {
  static std::atomic<std::uint64_t> held{0};
  return held;
}

Shard& shard_of(std::uint64_t network) noexcept {
  static auto& shards = *new std::array<Shard, 16>;
  return shards[NetworkHash()(network) >> 32 & (shards.size() - 1)];
}

BodyMemory::Account* open_account(std::uint64_t network) noexcept {
  Shard& shard = shard_of(network);
  const std::lock_guard guard(shard.lock);
  BodyMemory::Account& account = shard.accounts[network];
  ++account.bodies;
  return &account;
}

void close_account(std::uint64_t network) noexcept {
  Shard& shard = shard_of(network);
  const std::lock_guard guard(shard.lock);
  const auto found = shard.accounts.find(network);
  if (--found->second.bodies == 0) shard.accounts.erase(found);
}

}  // namespace

std::uint32_t BodyAllowance::take(std::uint64_t bytes) noexcept {
  std::uint32_t left = left_.load(std::memory_order_relaxed);
  std::uint32_t taken = 0;
  do {
    taken = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, left));
  } while (!left_.compare_exchange_weak(left, left - taken, std::memory_order_relaxed));
  return taken;
}

BodyMemory::~BodyMemory() {
  allowance_.give_back(allowed_);
  if (held_ != 0) all().fetch_sub(held_, std::memory_order_relaxed);
  if (account_ == nullptr) return;
  account_->held.fetch_sub(held_, std::memory_order_relaxed);
  close_account(network_);
}

BodyMemory::Outcome BodyMemory::hold(std::uint64_t more, std::uint64_t most, std::uint64_t share) noexcept {
  const std::uint32_t allowed = allowance_.take(more);
  const Outcome outcome = more == allowed ? Outcome::held : count(more - allowed, most, share);
  if (outcome == Outcome::held) {
    allowed_ += allowed;
  } else {
    allowance_.give_back(allowed);
  }
  return outcome;
}

BodyMemory::Outcome BodyMemory::count(std::uint64_t more, std::uint64_t most, std::uint64_t share) noexcept {
  if (all().fetch_add(more, std::memory_order_relaxed) + more > most) {
    all().fetch_sub(more, std::memory_order_relaxed);
    return Outcome::full;
  }
  if (share != 0 && network_ != 0) {
    if (account_ == nullptr) account_ = open_account(network_);
    const std::uint64_t before = account_->held.fetch_add(more, std::memory_order_relaxed);
    if (before + more > share && before != held_) {
      account_->held.fetch_sub(more, std::memory_order_relaxed);
      all().fetch_sub(more, std::memory_order_relaxed);
      return Outcome::over_share;
    }
  }
  held_ += more;
  return Outcome::held;
}

std::uint64_t BodyMemory::in_use() noexcept { return all().load(std::memory_order_relaxed); }

}  // namespace evlua::http
