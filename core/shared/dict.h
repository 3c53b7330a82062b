// Dict: a concurrent dictionary of bounded size, from byte strings to scalars and byte strings.
//
// Keys are spread over shards, each with its own lock, hash table and least-recently-used list. What is stored counts
// against one bound in bytes; when it is reached, entries that have expired or were not used for the longest time (in
// their shard) make room. Nothing is allocated, freed or copied under a shard's lock but numbers: an entry is built
// outside of it, and whoever reads bytes pins the entry. Who uses an entry again finds it in a cache of its own, and
// takes no lock to read it, and only the entry's to add to it (dict_entry.h). [any thread]
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/lockfree/spin_lock.h"
#include "core/shared/watch.h"
#include "core/time.h"

namespace evlua {

class Dict {
 public:
  struct Value {
    enum class Kind : std::uint8_t { nil, boolean, integer, number, string };
    Kind kind = Kind::nil;
    union {
      bool boolean;
      std::int64_t integer = 0;
      double number;
    };
    std::string_view string;  ///< of a value that was read: as long as its Pin lives

    static Value of(bool value) noexcept;
    static Value of(std::int64_t value) noexcept;
    static Value of(double value) noexcept;
    static Value of(std::string_view value) noexcept;
    /// Same kind and value; an integer equals the float of the same value, as in Lua.
    bool operator==(const Value& other) const noexcept;
  };

  enum class Outcome : std::uint8_t {
    done,
    exists,
    missing,
    changed,    ///< the condition does not hold
    too_large,  ///< the entry is larger than the dictionary may be
    full,       ///< no room, and nothing may be evicted
    not_number,
  };
  enum class When : std::uint8_t { always, absent, present };

  struct Options {
    std::size_t bytes = std::size_t{10} << 20;  ///< bound of everything that is stored
    bool evict = true;                          ///< false: a full dictionary refuses new entries
    Instant (*clock)() noexcept = &monotonic_now;
  };

  struct Statistics {
    std::uint64_t entries = 0;
    std::uint64_t bytes = 0;
    std::uint64_t evictions = 0;  ///< of entries that had not expired
  };

  /// Knows the entries that one caller has used, so that it finds them without a lock; and keeps what it has read.
  class Cache;

  explicit Dict(Options options);
  ~Dict();
  Dict(const Dict&) = delete;
  Dict& operator=(const Dict&) = delete;

  const Options& options() const noexcept { return options_; }
  Instant now() const noexcept { return options_.clock(); }

  /// The value, nil when there is none. A string is there until the next call with this cache. `version` becomes that
  /// of the entry, 0 for none: see store_if.
  void get(std::string_view key, Value& value, Cache& cache, std::uint64_t* version = nullptr);
  /// A nil removes. `expires` as an instant, or kNever.
  Outcome store(std::string_view key, const Value& value, Instant expires, When when);
  /// Stores if the entry has still the version that get has told.
  Outcome store_if(std::string_view key, std::uint64_t version, const Value& value, Instant expires);
  /// Stores if the present value equals `expected` (nil: if there is none).
  Outcome compare_and_store(std::string_view key, const Value& expected, const Value& value, Instant expires);
  /// Adds to a number, and to `initial` if there is none (nil: then it is an error). The time to live stays, but that
  /// of a new entry is `expires`. Integers wrap around.
  Outcome increment(std::string_view key, const Value& by, const Value& initial, Instant expires, Value& result,
                    Cache& cache);
  /// True when there was one.
  bool erase(std::string_view key);
  /// A new time to live for what is there.
  bool set_expiry(std::string_view key, Instant expires);
  /// False when there is no such entry.
  bool expiry(std::string_view key, Instant& expires);
  void clear();
  /// At most `count` keys, in no order. The dictionary may change meanwhile.
  std::vector<std::string> keys(std::size_t count);
  Statistics statistics();

  WatchList& watches() noexcept { return watches_; }

 private:
  struct Entry;
  struct Shard;
  struct Removed;
  /// What an entry holds at one moment, see dict_entry.h.
  struct Seen {
    std::uint64_t tag = 0;
    std::int64_t bits = 0;  // of a scalar
    Instant expires = kNever;
  };
  struct CacheSlot {
    Entry* entry = nullptr;
    Seen seen;           // by the last increment, which a next one of the same caller may find unchanged
    Instant missed = 0;  // when it last did not
  };

  std::uint64_t hash_of(std::string_view key) const noexcept;
  Shard& shard_of(std::uint64_t hash) noexcept;
  bool has_expired(Instant expires) const noexcept { return expires != kNever && expires <= now(); }
  Entry* find(Shard& shard, std::uint64_t hash, std::string_view key, Removed& removed) noexcept;
  Entry* known(Cache& cache, std::string_view key);
  Entry* learn(Cache& cache, std::string_view key);
  bool increment_seen(Entry& entry, Seen& seen, const Value& by, Value& result) noexcept;
  Outcome increment(Entry& entry, CacheSlot& slot, const Value& by, Value& result) noexcept;
  template <class Condition>
  Outcome store_when(std::string_view key, const Value& value, Instant expires, Condition allowed);
  template <class Condition>
  Outcome store_new(std::uint64_t hash, std::string_view key, const Value& value, Instant expires, Condition allowed);
  Outcome charge(std::size_t added, std::size_t replaced) noexcept;
  void insert(Shard& shard, Entry& entry) noexcept;
  static void touch(Shard& shard, Entry& entry) noexcept;
  void unlink(Shard& shard, Entry& entry, Removed& removed) noexcept;
  void drop(Shard& shard, Entry& entry, Removed& removed) noexcept;
  static Entry* least_used(Shard& shard, const Entry* keep) noexcept;
  bool sweep(Shard& shard, Removed& removed) noexcept;
  void sweep_all();
  bool over_bound() const noexcept { return bytes_.load(std::memory_order_relaxed) > options_.bytes; }
  void make_room(std::size_t first_shard, const Entry* keep);
  void free_all(Removed& removed);
  std::vector<Entry*> pin_some(Shard& shard, std::size_t count);

  const Options options_;
  const std::uint64_t seed_;
  std::size_t shard_mask_ = 0;
  std::size_t bucket_mask_ = 0;
  std::unique_ptr<Shard[]> shards_;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> evictions_{0};
  WatchList watches_;
};

/// May outlive the dictionary's entries, but not be used with another dictionary. [one thread at a time]
class Dict::Cache {
 public:
  Cache() = default;
  ~Cache() { clear(); }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  /// What was read is not needed any more.
  void release() noexcept;
  void clear() noexcept;

 private:
  friend class Dict;
  static constexpr std::size_t kSlots = 64;
  static constexpr std::size_t kStringGrain = 32;  // strings lie so far apart, or nearly
  static constexpr std::size_t kBytes = 384;       // longer entries are not kept: they may be gone from the dictionary

  using Slot = CacheSlot;

  Slot& slot(std::string_view key) noexcept;
  void forget(std::string_view key) noexcept;

  std::array<Slot, kSlots> slots_{};
  Entry* large_ = nullptr;
};

}  // namespace evlua
