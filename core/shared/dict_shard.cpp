// Dict: which entries there are, and which go.
#include "core/shared/dict_shard.h"

#include <mutex>
#include <utility>

namespace evlua {

namespace {

constexpr std::size_t kSweepBuckets = 256;                    // at a time, under the lock
constexpr std::uint64_t kEntryStep = std::uint64_t{1} << 24;  // of versions, which changes of an entry count singly
constexpr int kSecondChances = 32;
}  // namespace

// -- under a shard's lock -------------------------------------------------------------------------------------------

void Dict::insert(Shard& shard, Entry& entry) noexcept {
  Entry*& bucket = shard.buckets[entry.hash & bucket_mask_].first;
  entry.chain = bucket;
  bucket = &entry;
  entry.newer = nullptr;
  entry.older = shard.newest;
  (shard.newest != nullptr ? shard.newest->newer : shard.oldest) = &entry;
  shard.newest = &entry;
  shard.version += kEntryStep;
  entry.begin(shard.version);
  ++shard.entries;
  shard.note_expiry(entry.expires.load(std::memory_order_relaxed));
}

/// REQUIRES: the entry's lock.
void Dict::unlink(Shard& shard, Entry& entry, Removed& removed) noexcept {
  Entry** link = &shard.buckets[entry.hash & bucket_mask_].first;
  while (*link != &entry) link = &(*link)->chain;
  *link = entry.chain;
  (entry.newer != nullptr ? entry.newer->older : shard.newest) = entry.older;
  (entry.older != nullptr ? entry.older->newer : shard.oldest) = entry.newer;
  --shard.entries;
  entry.set_unlinked();
  removed.add(entry);
}

/// It has expired, or has to make room.
void Dict::drop(Shard& shard, Entry& entry, Removed& removed) noexcept {
  const std::lock_guard guard(entry);
  entry.went_unasked = true;
  unlink(shard, entry, removed);
}

/// Now it is the one that was used last.
void Dict::touch(Shard& shard, Entry& entry) noexcept {
  if (entry.newer == nullptr) return;
  entry.newer->older = entry.older;
  (entry.older != nullptr ? entry.older->newer : shard.oldest) = entry.newer;
  entry.newer = nullptr;
  entry.older = shard.newest;
  shard.newest->newer = &entry;
  shard.newest = &entry;
}

/// The entry, touched.
Dict::Entry* Dict::find(Shard& shard, std::uint64_t hash, std::string_view key, Removed& removed) noexcept {
  Entry* entry = shard.buckets[hash & bucket_mask_].first;
  while (entry != nullptr && (entry->hash != hash || !entry->is(key))) entry = entry->chain;
  if (entry == nullptr) return nullptr;
  if (has_expired(entry->expires.load(std::memory_order_relaxed))) {
    drop(shard, *entry, removed);
    return nullptr;
  }
  touch(shard, *entry);
  return entry;
}

/// Who goes next. Those that were used through a cache are put to where a use would have put them.
Dict::Entry* Dict::least_used(Shard& shard, const Entry* keep) noexcept {
  for (int chances = kSecondChances; chances > 0 && shard.oldest != nullptr; --chances) {
    Entry& oldest = *shard.oldest;
    if (!oldest.used.load(std::memory_order_relaxed)) break;
    oldest.used.store(false, std::memory_order_relaxed);
    touch(shard, oldest);
  }
  return keep != nullptr && shard.oldest == keep ? keep->newer : shard.oldest;
}

/// Unlinks what has expired in the next few buckets. False: this was the end of a round, or nothing can have expired.
bool Dict::sweep(Shard& shard, Removed& removed) noexcept {
  const Instant at = shard.next_expiry == kNever ? 0 : now();
  if (at < shard.next_expiry) return false;
  const std::size_t end = std::min(shard.sweep_at + kSweepBuckets, bucket_mask_ + 1);
  for (; shard.sweep_at < end; ++shard.sweep_at) {
    for (Entry* entry = shard.buckets[shard.sweep_at].first; entry != nullptr;) {
      Entry& here = *std::exchange(entry, entry->chain);
      const Instant expires = here.expires.load(std::memory_order_relaxed);
      if (expires <= at) {
        drop(shard, here, removed);
      } else {
        shard.expiry_ahead = std::min(shard.expiry_ahead, expires);
      }
    }
  }
  if (shard.sweep_at <= bucket_mask_) return true;
  shard.sweep_at = 0;
  shard.next_expiry = std::exchange(shard.expiry_ahead, kNever);
  return false;
}

// -- room -----------------------------------------------------------------------------------------------------------

/// Outside of all locks.
void Dict::free_all(Removed& removed) {
  while (removed.first != nullptr) {
    Entry* entry = std::exchange(removed.first, removed.first->chain);
    bytes_.fetch_sub(entry->charge, std::memory_order_relaxed);
    if (entry->went_unasked && !watches_.empty()) watches_.tell(entry->key());
    entry->unpin();
  }
}

/// Everything that has expired, goes.
void Dict::sweep_all() {
  for (std::size_t i = 0; i <= shard_mask_; ++i) {
    for (bool more = true; more;) {
      Removed removed;
      {
        const std::lock_guard guard(shards_[i].lock);
        more = sweep(shards_[i], removed);
      }
      free_all(removed);
    }
  }
}

/// Removes entries until the bound is kept: what has expired, then what was not used for longest; never `keep`.
void Dict::make_room(std::size_t first_shard, const Entry* keep) {
  std::size_t useless = 0;
  for (std::size_t i = first_shard; over_bound() && useless <= shard_mask_;) {
    Shard& shard = shards_[i & shard_mask_];
    Removed removed;
    {
      const std::lock_guard guard(shard.lock);
      (void)sweep(shard, removed);
      Entry* victim = removed.first == nullptr ? least_used(shard, keep) : nullptr;
      if (victim != nullptr) {
        drop(shard, *victim, removed);
        evictions_.fetch_add(1, std::memory_order_relaxed);
      }
    }
    if (removed.first == nullptr) {
      ++useless;
      ++i;
    }
    free_all(removed);
  }
}

}  // namespace evlua
