#include "core/shared/dict.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <random>

#include "core/check.h"

namespace evlua {

namespace {

constexpr std::size_t kShards = 16;
constexpr std::size_t kShardedFrom = std::size_t{256} << 10;  // below, one list tells exactly what was not used longest
constexpr std::size_t kBytesPerBucket = 128;
constexpr std::size_t kBucketsMax = std::size_t{1} << 26;
constexpr std::size_t kSweepBuckets = 256;  // at a time, under the lock
constexpr std::size_t kMallocGrain = 16;

std::uint64_t random_seed() {
  std::random_device source;
  return (std::uint64_t{source()} << 32) | source();
}

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

template <class T>
std::uint64_t load(const char* bytes) noexcept {
  T word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

/// Both halves of the product, folded.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// memcmp is a call; keys are short.
bool same_bytes(const char* a, const char* b, std::size_t size) noexcept {
  if (size > 16) return std::memcmp(a, b, size) == 0;
  if (size >= 8) {
    return load<std::uint64_t>(a) == load<std::uint64_t>(b) &&
           load<std::uint64_t>(a + size - 8) == load<std::uint64_t>(b + size - 8);
  }
  if (size >= 4) {
    return load<std::uint32_t>(a) == load<std::uint32_t>(b) &&
           load<std::uint32_t>(a + size - 4) == load<std::uint32_t>(b + size - 4);
  }
  for (std::size_t i = 0; i < size; ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

}  // namespace

Dict::Value Dict::Value::of(bool value) noexcept {
  Value made;
  made.kind = Kind::boolean;
  made.boolean = value;
  return made;
}

Dict::Value Dict::Value::of(std::int64_t value) noexcept {
  Value made;
  made.kind = Kind::integer;
  made.integer = value;
  return made;
}

Dict::Value Dict::Value::of(double value) noexcept {
  Value made;
  made.kind = Kind::number;
  made.number = value;
  return made;
}

Dict::Value Dict::Value::of(std::string_view value) noexcept {
  Value made;
  made.kind = Kind::string;
  made.string = value;
  return made;
}

bool Dict::Value::operator==(const Value& other) const noexcept {
  if (kind != other.kind) {
    if (kind == Kind::integer && other.kind == Kind::number) return static_cast<double>(integer) == other.number;
    if (kind == Kind::number && other.kind == Kind::integer) return other == *this;
    return false;
  }
  switch (kind) {
    case Kind::nil: return true;
    case Kind::boolean: return boolean == other.boolean;
    case Kind::integer: return integer == other.integer;
    case Kind::number: return number == other.number;
    case Kind::string: return string == other.string;
  }
  EVLUA_UNREACHABLE();
}

/// The bytes of the key lie behind it, then those of a string.
struct Dict::Entry {
  Entry* chain = nullptr;  // in its bucket; or in a Removed
  Entry* newer = nullptr;  // by use
  Entry* older = nullptr;
  std::uint64_t hash = 0;
  std::uint64_t version = 0;
  Instant expires = kNever;
  std::size_t charge = 0;  // what it counts against the bound
  std::size_t key_size = 0;
  std::size_t string_size = 0;
  Value value;                         // without `string`
  std::atomic<std::uint32_t> pins{1};  // one is the dictionary's own
  bool went_unasked = false;           // evicted or expired: nobody has told the watches yet

  char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  std::string_view key() noexcept { return {bytes(), key_size}; }
  bool is(std::string_view other) noexcept {
    return key_size == other.size() && same_bytes(bytes(), other.data(), key_size);
  }
  Value full_value() noexcept {
    Value full = value;
    if (full.kind == Kind::string) full.string = {bytes() + key_size, string_size};
    return full;
  }
};

struct alignas(64) Dict::Shard {
  SpinLock lock;
  struct Bucket {
    Entry* first = nullptr;
  };
  Bucket* buckets = nullptr;
  Entry* newest = nullptr;
  Entry* oldest = nullptr;
  std::uint64_t version = 0;
  std::uint64_t entries = 0;
  // Expired entries are looked for from `sweep_at` on, not before `next_expiry`, which no entry precedes.
  Instant next_expiry = kNever;
  Instant expiry_ahead = kNever;  // of those that the present round has passed
  std::size_t sweep_at = 0;

  ~Shard() { std::free(buckets); }
  void note_expiry(Instant expires) noexcept {
    next_expiry = std::min(next_expiry, expires);
    expiry_ahead = std::min(expiry_ahead, expires);
  }
};

/// Entries that were unlinked under a lock, to be freed outside of it.
struct Dict::Removed {
  Entry* first = nullptr;

  void add(Entry& entry) noexcept {
    entry.chain = first;
    first = &entry;
  }
};

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

/// As wyhash does it for short keys.
inline std::uint64_t Dict::hash_of(std::string_view key) const noexcept {
  const std::size_t size = key.size();
  const char* bytes = key.data();
  if (size > 16) return XXH3_64bits_withSeed(bytes, size, seed_);
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  if (size >= 8) {
    a = load<std::uint64_t>(bytes);
    b = load<std::uint64_t>(bytes + size - 8);
  } else if (size >= 4) {
    a = load<std::uint32_t>(bytes);
    b = load<std::uint32_t>(bytes + size - 4);
  } else if (size > 0) {
    a = load<std::uint8_t>(bytes);
    b = (load<std::uint8_t>(bytes + size / 2) << 8) | load<std::uint8_t>(bytes + size - 1);
  }
  return fold(fold(a ^ seed_, b ^ std::rotl(seed_, 32)) ^ size, seed_ | 1);
}

inline Dict::Shard& Dict::shard_of(std::uint64_t hash) noexcept { return shards_[(hash >> 56) & shard_mask_]; }

void Dict::unpin(Entry* entry) noexcept {
  // acq_rel: whoever frees has seen what the others did with the bytes.
  if (entry->pins.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  entry->~Entry();
  std::free(entry);
}

Dict::Entry* Dict::make(std::uint64_t hash, std::string_view key, const Value& value) const {
  const std::size_t string_size = value.kind == Kind::string ? value.string.size() : 0;
  const std::size_t size = sizeof(Entry) + key.size() + string_size;
  void* memory = std::malloc(size);
  if (memory == nullptr) return nullptr;
  auto* entry = new (memory) Entry;
  entry->hash = hash;
  entry->charge = (size + 2 * kMallocGrain - 1) / kMallocGrain * kMallocGrain;
  entry->key_size = key.size();
  entry->string_size = string_size;
  entry->value = value;
  entry->value.string = {};
  if (!key.empty()) std::memcpy(entry->bytes(), key.data(), key.size());
  if (string_size != 0) std::memcpy(entry->bytes() + key.size(), value.string.data(), string_size);
  return entry;
}

// -- under a shard's lock -------------------------------------------------------------------------------------------

void Dict::insert(Shard& shard, Entry& entry) noexcept {
  Entry*& bucket = shard.buckets[entry.hash & bucket_mask_].first;
  entry.chain = bucket;
  bucket = &entry;
  entry.newer = nullptr;
  entry.older = shard.newest;
  (shard.newest != nullptr ? shard.newest->newer : shard.oldest) = &entry;
  shard.newest = &entry;
  entry.version = ++shard.version;
  ++shard.entries;
  shard.note_expiry(entry.expires);
}

void Dict::unlink(Shard& shard, Entry& entry, Removed& removed) noexcept {
  Entry** link = &shard.buckets[entry.hash & bucket_mask_].first;
  while (*link != &entry) link = &(*link)->chain;
  *link = entry.chain;
  (entry.newer != nullptr ? entry.newer->older : shard.newest) = entry.older;
  (entry.older != nullptr ? entry.older->newer : shard.oldest) = entry.newer;
  --shard.entries;
  removed.add(entry);
}

/// The entry, which is now the one that was used last.
[[gnu::always_inline]] inline Dict::Entry* Dict::find(Shard& shard, std::uint64_t hash, std::string_view key,
                                                      Removed& removed) noexcept {
  Entry* entry = shard.buckets[hash & bucket_mask_].first;
  while (entry != nullptr && (entry->hash != hash || !entry->is(key))) entry = entry->chain;
  if (entry == nullptr) return nullptr;
  if (entry->expires != kNever && entry->expires <= now()) {
    entry->went_unasked = true;
    unlink(shard, *entry, removed);
    return nullptr;
  }
  if (entry->newer != nullptr) {
    entry->newer->older = entry->older;
    (entry->older != nullptr ? entry->older->newer : shard.oldest) = entry->newer;
    entry->newer = nullptr;
    entry->older = shard.newest;
    shard.newest->newer = entry;
    shard.newest = entry;
  }
  return entry;
}

/// Unlinks what has expired in the next few buckets. False: this was the end of a round, or nothing can have expired.
bool Dict::sweep(Shard& shard, Removed& removed) noexcept {
  const Instant at = shard.next_expiry == kNever ? 0 : now();
  if (at < shard.next_expiry) return false;
  const std::size_t end = std::min(shard.sweep_at + kSweepBuckets, bucket_mask_ + 1);
  for (; shard.sweep_at < end; ++shard.sweep_at) {
    for (Entry* entry = shard.buckets[shard.sweep_at].first; entry != nullptr;) {
      Entry& here = *std::exchange(entry, entry->chain);
      if (here.expires <= at) {
        here.went_unasked = true;
        unlink(shard, here, removed);
      } else {
        shard.expiry_ahead = std::min(shard.expiry_ahead, here.expires);
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
    unpin(entry);
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
      Entry* victim = shard.oldest == keep && keep != nullptr ? keep->newer : shard.oldest;
      if (removed.first == nullptr && victim != nullptr) {
        victim->went_unasked = true;
        unlink(shard, *victim, removed);
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

// -- operations -----------------------------------------------------------------------------------------------------

void Dict::get(std::string_view key, Value& value, Pin& pin, std::uint64_t* version) {
  const std::uint64_t hash = hash_of(key);
  Shard& shard = shard_of(hash);
  Removed removed;
  value.kind = Kind::nil;
  {
    const std::lock_guard guard(shard.lock);
    Entry* entry = find(shard, hash, key, removed);
    if (version != nullptr) *version = entry != nullptr ? entry->version : 0;
    if (entry != nullptr) {
      value.kind = entry->value.kind;  // piece by piece: a copy as a whole would wait for these stores
      value.integer = entry->value.integer;
      if (value.kind == Kind::string) {
        value.string = {entry->bytes() + entry->key_size, entry->string_size};
        entry->pins.fetch_add(1, std::memory_order_relaxed);  // the dictionary holds one
        pin.entry_ = entry;
      }
    }
  }
  if (removed.first != nullptr) free_all(removed);
}

/// `allowed(const Entry*)` tells, under the lock, whether to go on.
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
      outcome = allowed(entry);
      if (outcome == Outcome::done && entry != nullptr) {
        if (value.kind == Kind::nil) {
          unlink(shard, *entry, removed);
        } else {
          entry->value = value;
          entry->expires = expires;
          entry->version = ++shard.version;
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
  Entry* made = make(hash, key, value);
  if (made == nullptr) return Outcome::full;
  made->expires = expires;
  Shard& shard = shard_of(hash);
  Removed removed;
  Outcome outcome = made->charge > options_.bytes ? Outcome::too_large : Outcome::done;
  if (outcome == Outcome::done) {
    const std::lock_guard guard(shard.lock);
    Entry* old = find(shard, hash, key, removed);
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
    unpin(made);
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
    return (entry != nullptr ? entry->version : 0) == version ? Outcome::done : Outcome::changed;
  });
}

Dict::Outcome Dict::compare_and_store(std::string_view key, const Value& expected, const Value& value,
                                      Instant expires) {
  return store_when(key, value, expires, [&expected](Entry* entry) {
    return (entry != nullptr ? entry->full_value() : Value()) == expected ? Outcome::done : Outcome::changed;
  });
}

Dict::Outcome Dict::increment(std::string_view key, const Value& by, const Value& initial, Instant expires,
                              Value& result) {
  const std::uint64_t hash = hash_of(key);
  Shard& shard = shard_of(hash);
  while (true) {
    Removed removed;
    Outcome outcome = Outcome::missing;
    {
      const std::lock_guard guard(shard.lock);
      Entry* entry = find(shard, hash, key, removed);
      if (entry != nullptr) outcome = is_number(entry->value.kind) ? Outcome::done : Outcome::not_number;
      if (outcome == Outcome::done) {
        add(entry->value, by);
        entry->version = ++shard.version;
        result.kind = entry->value.kind;
        result.integer = entry->value.integer;
      }
    }
    if (removed.first != nullptr) free_all(removed);
    if (outcome == Outcome::done && !watches_.empty()) watches_.tell(key);
    if (outcome != Outcome::missing || initial.kind == Kind::nil) return outcome;
    result = initial;
    add(result, by);
    outcome = store(key, result, expires, When::absent);
    if (outcome != Outcome::exists) return outcome;
  }
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
      entry->expires = expires;
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
    if (found) expires = entry->expires;
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
      while (shard.oldest != nullptr) unlink(shard, *shard.oldest, removed);
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
      unpin(entry);
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
    if (entry->expires <= at || pinned.size() == count) continue;
    entry->pins.fetch_add(1, std::memory_order_relaxed);
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
