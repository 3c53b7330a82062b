#include "net/dns/cache.h"

#include <utility>

#include "core/random_seed.h"
#include "core/shared/dict_hash.h"

namespace evlua::net {

std::size_t DnsCache::Hash::operator()(std::string_view key) const noexcept {
  static const std::uint64_t seed = random_seed();
  return evlua::detail::hash_key(key, seed);
}

std::shared_ptr<const DnsAnswer> DnsCache::find(std::string_view key, Instant now) {
  const std::lock_guard guard(lock_);
  const auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  const Entries::iterator entry = found->second;
  if (entry->answer->until <= now) {
    index_.erase(found);
    entries_.erase(entry);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->answer;
}

void DnsCache::put(const std::string& key, std::shared_ptr<const DnsAnswer> answer) {
  if (answer->message.size() + answer->addresses.size() * sizeof(Address) > kAnswerBytesMax) return;
  const std::lock_guard guard(lock_);
  const auto found = index_.find(key);
  if (found != index_.end()) {
    found->second->answer = std::move(answer);
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
  }
  if (entries_.size() >= kEntriesMax) {
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({key, std::move(answer)});
  index_.emplace(entries_.front().key, entries_.begin());
}

void DnsCache::clear() {
  const std::lock_guard guard(lock_);
  index_.clear();
  entries_.clear();
}

std::size_t DnsCache::size() {
  const std::lock_guard guard(lock_);
  return entries_.size();
}

DnsCache& dns_cache() noexcept {
  static DnsCache cache;
  return cache;
}

}  // namespace evlua::net
