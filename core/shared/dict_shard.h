// A part of a Dict, with its own lock.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/lockfree/spin_lock.h"
#include "core/shared/dict.h"
#include "core/shared/dict_entry.h"

namespace evlua {

struct alignas(64) Dict::Shard {
  BasicSpinLock<PlainAtomics> lock;
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

}  // namespace evlua
