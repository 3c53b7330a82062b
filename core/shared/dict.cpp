#include "core/shared/dict.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>

#include "core/random_seed.h"
#include "core/shared/dict_entry.h"
#include "core/shared/dict_hash.h"
#include "core/shared/dict_shard.h"

namespace evlua {

namespace {

constexpr std::size_t kShards = 16;
constexpr std::size_t kShardedFrom = std::size_t{256} << 10;  // below, one list tells exactly what was not used longest
constexpr std::size_t kBytesPerBucket = 128;
constexpr std::size_t kBucketsMax = std::size_t{1} << 26;
constexpr Duration kContended =
    5 * kMicrosecond;  // when increments of one caller meet others' so soon one after another

using Kind = Dict::Value::Kind;

bool is_number(Kind kind) noexcept { return kind == Kind::integer || kind == Kind::number; }

/// Both are numbers. Field by field: copying a Value as a whole would wait for stores of its parts.
[[gnu::always_inline]] inline void add(Dict::Value& to, const Dict::Value& by) noexcept {
  if (to.kind == Kind::integer && by.kind == Kind::integer) {
    to.integer =
        static_cast<std::int64_t>(static_cast<std::uint64_t>(to.integer) + static_cast<std::uint64_t>(by.integer));
    return;
  }
  const auto number = [](const Dict::Value& of) {
    return of.kind == Kind::integer ? static_cast<double>(of.integer) : of.number;
  };
  to.number = number(to) + number(by);
  to.kind = Kind::number;
}

}  // namespace

Dict::Dict(Options options) : options_(options), seed_(random_seed()) {
  const std::size_t shards = options_.bytes >= kShardedFrom ? kShards : 1;
  const std::size_t buckets = std::bit_ceil(std::clamp<std::size_t>(options_.bytes / kBytesPerBucket, 16, kBucketsMax));
  shard_mask_ = shards - 1;
  bucket_mask_ = buckets / shards - 1;
  shards_ = std::make_unique<Shard[]>(shards);
  for (std::size_t i = 0; i < shards; ++i) {
    shards_[i].buckets = static_cast<Shard::Bucket*>(std::calloc(bucket_mask_ + 1, sizeof(Shard::Bucket)));
    if (shards_[i].buckets == nullptr) throw std::bad_alloc();
  }
}

Dict::~Dict() { clear(); }

inline std::uint64_t Dict::hash_of(std::string_view key) const noexcept { return detail::hash_key(key, seed_); }

inline Dict::Shard& Dict::shard_of(std::uint64_t hash) noexcept { return shards_[(hash >> 56) & shard_mask_]; }

// -- operations -----------------------------------------------------------------------------------------------------

void Dict::Cache::clear() noexcept {
  release();
  for (Slot& slot : slots_) {
    if (Entry* entry = std::exchange(slot.entry, nullptr)) entry->unpin();
  }
}

void Dict::Cache::release() noexcept {
  if (large_ != nullptr) large_->unpin();
  large_ = nullptr;
}

/// By where the key lies: Lua keeps a short string once.
inline Dict::Cache::Slot& Dict::Cache::slot(std::string_view key) noexcept {
  return slots_[reinterpret_cast<std::uintptr_t>(key.data()) / kStringGrain % kSlots];
}

void Dict::Cache::forget(std::string_view key) noexcept {
  if (Entry* entry = std::exchange(slot(key).entry, nullptr)) entry->unpin();
  release();
}

/// The entry, pinned by the cache; it may have been unlinked since. Null when there is none.
[[gnu::always_inline]] inline Dict::Entry* Dict::known(Cache& cache, std::string_view key) {
  Entry* entry = cache.slot(key).entry;
  if (entry == nullptr || !entry->is(key)) return learn(cache, key);
  if (!entry->used.load(std::memory_order_relaxed)) entry->used.store(true, std::memory_order_relaxed);
  return entry;
}

Dict::Entry* Dict::learn(Cache& cache, std::string_view key) {
  const std::uint64_t hash = hash_of(key);
  Shard& shard = shard_of(hash);
  Removed removed;
  Entry* entry = nullptr;
  {
    const std::lock_guard guard(shard.lock);
    entry = find(shard, hash, key, removed);
    if (entry != nullptr) entry->pin();
  }
  if (removed.first != nullptr) free_all(removed);
  if (entry == nullptr) return nullptr;
  if (entry->key_size + entry->string_size > Cache::kBytes) {
    cache.release();
    cache.large_ = entry;
  } else {
    cache.forget(key);
    cache.slot(key) = {entry, {}};
  }
  return entry;
}

void Dict::get(std::string_view key, Value& value, Cache& cache, std::uint64_t* version) {
  while (Entry* entry = known(cache, key)) {
    const Seen state = entry->look();
    if (Entry::is_unlinked(state) || has_expired(state.expires)) {
      cache.forget(key);
      continue;
    }
    entry->copy_to(value, state);
    if (version != nullptr) *version = Entry::version_of(state);
    return;
  }
  value.kind = Kind::nil;
  if (version != nullptr) *version = 0;
}

namespace {

/// Its lock, if there is an entry.
template <class Entry>
std::unique_lock<Entry> hold(Entry* entry) {
  return entry != nullptr ? std::unique_lock(*entry) : std::unique_lock<Entry>();
}

}  // namespace

/// `allowed(Entry*)` tells, under the locks, whether to go on.
template <class Condition>
Dict::Outcome Dict::store_when(std::string_view key, const Value& value, Instant expires, Condition allowed) {
  const std::uint64_t hash = hash_of(key);
  Shard& shard = shard_of(hash);
  Removed removed;
  Outcome outcome = Outcome::done;
  bool stored = false;
  bool existed = false;
  {
    // A scalar takes the place of a scalar; nothing is needed to remove.
    const std::lock_guard guard(shard.lock);
    Entry* entry = value.kind != Kind::string ? find(shard, hash, key, removed) : nullptr;
    existed = entry != nullptr;
    if (value.kind == Kind::nil || (entry != nullptr && entry->string_size == 0)) {
      stored = true;
      const std::unique_lock<Entry> held = hold(entry);
      outcome = allowed(entry);
      if (outcome == Outcome::done && entry != nullptr) {
        if (value.kind == Kind::nil) {
          unlink(shard, *entry, removed);
        } else {
          entry->set(value);
          entry->set_expiry(expires);
          shard.note_expiry(expires);
        }
      }
    }
  }
  if (removed.first != nullptr) free_all(removed);
  if (!stored) {
    outcome = store_new(hash, key, value, expires, allowed);
    if (outcome == Outcome::full) {
      sweep_all();
      outcome = store_new(hash, key, value, expires, allowed);
    }
    existed = true;
  }
  if (outcome == Outcome::done && existed && !watches_.empty()) watches_.tell(key);
  return outcome;
}

template <class Condition>
Dict::Outcome Dict::store_new(std::uint64_t hash, std::string_view key, const Value& value, Instant expires,
                              Condition allowed) {
  const std::size_t bytes = sizeof(Entry) + key.size() + (value.kind == Kind::string ? value.string.size() : 0);
  if (bytes > std::min<std::size_t>(options_.bytes, std::numeric_limits<std::uint32_t>::max())) {
    return Outcome::too_large;
  }
  Entry* made = Entry::make(hash, key, value, expires);
  if (made == nullptr) return Outcome::full;
  Shard& shard = shard_of(hash);
  Removed removed;
  Outcome outcome = made->charge > options_.bytes ? Outcome::too_large : Outcome::done;
  if (outcome == Outcome::done) {
    const std::lock_guard guard(shard.lock);
    Entry* old = find(shard, hash, key, removed);
    const std::unique_lock<Entry> held = hold(old);
    outcome = allowed(old);
    if (outcome == Outcome::done) outcome = charge(made->charge, old != nullptr ? old->charge : 0);
    if (outcome == Outcome::done) {
      if (old != nullptr) {
        old->charge = 0;  // settled by `charge`
        unlink(shard, *old, removed);
      }
      insert(shard, *made);
    }
  }
  free_all(removed);
  if (outcome != Outcome::done) {
    made->unpin();
  } else if (over_bound()) {
    make_room((hash >> 56) & shard_mask_, made);
  }
  return outcome;
}

/// The entry's bytes take the place of those of the one it replaces.
Dict::Outcome Dict::charge(std::size_t added, std::size_t replaced) noexcept {
  const std::uint64_t total = bytes_.fetch_add(added - replaced, std::memory_order_relaxed) + added - replaced;
  if (options_.evict || total <= options_.bytes || added <= replaced) return Outcome::done;
  bytes_.fetch_sub(added - replaced, std::memory_order_relaxed);
  return Outcome::full;
}

Dict::Outcome Dict::store(std::string_view key, const Value& value, Instant expires, When when) {
  return store_when(key, value, expires, [when](Entry* entry) {
    if (when == When::absent && entry != nullptr) return Outcome::exists;
    if (when == When::present && entry == nullptr) return Outcome::missing;
    return Outcome::done;
  });
}

Dict::Outcome Dict::store_if(std::string_view key, std::uint64_t version, const Value& value, Instant expires) {
  return store_when(key, value, expires, [version](Entry* entry) {
    return (entry != nullptr ? Entry::version_of(entry->state()) : 0) == version ? Outcome::done : Outcome::changed;
  });
}

Dict::Outcome Dict::compare_and_store(std::string_view key, const Value& expected, const Value& value,
                                      Instant expires) {
  return store_when(key, value, expires, [&expected](Entry* entry) {
    return (entry != nullptr ? entry->value() : Value()) == expected ? Outcome::done : Outcome::changed;
  });
}

Dict::Outcome Dict::increment(std::string_view key, const Value& by, const Value& initial, Instant expires,
                              Value& result, Cache& cache) {
  while (true) {
    while (Entry* entry = known(cache, key)) {
      Cache::Slot& slot = cache.slot(key);
      const bool guessed = slot.entry == entry && increment_seen(*entry, slot.seen, by, result);
      const Outcome outcome = guessed ? Outcome::done : increment(*entry, slot, by, result);
      if (outcome == Outcome::done && !watches_.empty()) watches_.tell(key);
      if (outcome != Outcome::missing) return outcome;
      cache.forget(key);
    }
    if (initial.kind == Kind::nil) return Outcome::missing;
    result = initial;
    add(result, by);
    const Outcome outcome = store(key, result, expires, When::absent);
    if (outcome != Outcome::exists) return outcome;
  }
}

/// False: it is not, or no longer, as it was seen.
[[gnu::always_inline]] inline bool Dict::increment_seen(Entry& entry, Seen& seen, const Value& by,
                                                        Value& result) noexcept {
  result.kind = Entry::kind_of(seen);
  if (!is_number(result.kind) || Entry::is_unlinked(seen) || has_expired(seen.expires)) return false;
  result.integer = seen.bits;
  add(result, by);
  return entry.exchange(seen, result);
}

/// Missing: it has been unlinked, or has expired.
Dict::Outcome Dict::increment(Entry& entry, CacheSlot& slot, const Value& by, Value& result) noexcept {
  const Instant at = monotonic_now();
  if (at - slot.missed < kContended) Entry::give_way();
  slot.missed = at;
  const std::lock_guard guard(entry);
  const Seen seen = entry.state();
  if (Entry::is_unlinked(seen) || has_expired(seen.expires)) return Outcome::missing;
  result.kind = Entry::kind_of(seen);
  if (!is_number(result.kind)) return Outcome::not_number;
  result.integer = seen.bits;
  add(result, by);
  entry.set(result);
  if (slot.entry == &entry) slot.seen = entry.state();
  return Outcome::done;
}

bool Dict::erase(std::string_view key) { return store(key, Value(), kNever, When::present) == Outcome::done; }

bool Dict::set_expiry(std::string_view key, Instant expires) {
  const std::uint64_t hash = hash_of(key);
  Shard& shard = shard_of(hash);
  Removed removed;
  bool found = false;
  {
    const std::lock_guard guard(shard.lock);
    Entry* entry = find(shard, hash, key, removed);
    found = entry != nullptr;
    if (found) {
      const std::lock_guard held(*entry);
      entry->set_expiry(expires);
      shard.note_expiry(expires);
    }
  }
  free_all(removed);
  return found;
}

bool Dict::expiry(std::string_view key, Instant& expires) {
  const std::uint64_t hash = hash_of(key);
  Shard& shard = shard_of(hash);
  Removed removed;
  bool found = false;
  {
    const std::lock_guard guard(shard.lock);
    const Entry* entry = find(shard, hash, key, removed);
    found = entry != nullptr;
    if (found) expires = entry->expires.load(std::memory_order_relaxed);
  }
  free_all(removed);
  return found;
}

void Dict::clear() {
  for (std::size_t i = 0; i <= shard_mask_; ++i) {
    Shard& shard = shards_[i];
    Removed removed;
    {
      const std::lock_guard guard(shard.lock);
      while (shard.oldest != nullptr) {
        Entry& entry = *shard.oldest;
        const std::lock_guard held(entry);
        unlink(shard, entry, removed);
      }
      shard.next_expiry = shard.expiry_ahead = kNever;
    }
    free_all(removed);
  }
  if (!watches_.empty()) watches_.tell_all();
}

std::vector<std::string> Dict::keys(std::size_t count) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i <= shard_mask_ && found.size() < count; ++i) {
    std::vector<Entry*> pinned = pin_some(shards_[i], count - found.size());
    for (Entry* entry : pinned) {
      found.emplace_back(entry->key());
      entry->unpin();
    }
  }
  return found;
}

/// Entries that are there, at most `count`, those that were used last.
std::vector<Dict::Entry*> Dict::pin_some(Shard& shard, std::size_t count) {
  std::vector<Entry*> pinned;
  std::size_t expected = 0;
  {
    const std::lock_guard guard(shard.lock);
    expected = shard.entries;
  }
  pinned.reserve(std::min<std::size_t>(count, expected + expected / 8 + 8));
  const Instant at = now();
  const std::lock_guard guard(shard.lock);
  for (Entry* entry = shard.newest; entry != nullptr && pinned.size() < pinned.capacity(); entry = entry->older) {
    if (entry->expires.load(std::memory_order_relaxed) <= at || pinned.size() == count) continue;
    entry->pin();
    pinned.push_back(entry);
  }
  return pinned;
}

Dict::Statistics Dict::statistics() {
  Statistics all;
  for (std::size_t i = 0; i <= shard_mask_; ++i) {
    const std::lock_guard guard(shards_[i].lock);
    all.entries += shards_[i].entries;
  }
  all.bytes = bytes_.load(std::memory_order_relaxed);
  all.evictions = evictions_.load(std::memory_order_relaxed);
  return all;
}

}  // namespace evlua
