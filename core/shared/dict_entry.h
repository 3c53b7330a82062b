// An entry of a Dict.
//
// Which entries there are is decided under their shard's lock. What one of them holds has a tag beside it, which
// changes with every change: so whoever knows the entry from a cache reads it without moving a cache line between
// processors, and increments it by one compare-and-swap of both. The tag has a bit that is a lock, for changes of more
// than that; who needs a shard's lock, too, takes that first.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>

#include "core/atomics.h"
#include "core/check.h"
#include "core/lockfree/pause.h"
#include "core/shared/dict.h"
#include "core/shared/dict_hash.h"

namespace evlua {

/// The bytes of the key lie behind it, then those of a string. BasicLockable: for a handful of instructions.
struct alignas(kCacheLine) Dict::Entry {
  // A dictionary may outlive a simulated run, and what a cache knows depends on where strings lie.
  template <class T>
  using Atomic = PlainAtomics::Atomic<T>;
  using Kind = Value::Kind;

  // A tag, from its lowest bit: held, unlinked (the dictionary does not have it any more), kind, version.
  static constexpr std::uint64_t kHeld = 1;
  static constexpr std::uint64_t kUnlinked = 2;
  static constexpr std::uint64_t kKindStep = 4;
  static constexpr std::uint64_t kKinds = 8;
  static constexpr std::uint64_t kVersionStep = kKindStep * kKinds;  // any change is one, but of the lock
  static Kind kind_of(const Seen& seen) noexcept { return static_cast<Kind>(seen.tag / kKindStep % kKinds); }
  static bool is_unlinked(const Seen& seen) noexcept { return (seen.tag & kUnlinked) != 0; }
  static std::uint64_t version_of(const Seen& seen) noexcept { return seen.tag / kVersionStep; }

  // -- a cache line of what changes --

  alignas(16) Atomic<std::int64_t> bits{0};
  Atomic<std::uint64_t> tag{0};  // see `exchange`
  Atomic<Instant> expires{kNever};

  // -- and one that whoever increments the entry only reads --

  alignas(kCacheLine) Entry* chain = nullptr;  // in its bucket; or in a Removed: under the shard's lock, as the next
  Entry* newer = nullptr;                      // by use
  Entry* older = nullptr;
  std::uint64_t hash = 0;
  std::uint32_t key_size = 0;
  std::uint32_t string_size = 0;
  std::size_t charge = 0;         // what it counts against the bound
  Atomic<std::uint32_t> pins{1};  // one is the dictionary's own
  Atomic<bool> used{false};       // by somebody who did not move it in its shard's list
  bool went_unasked = false;      // evicted or expired: nobody has told the watches yet

  /// Null without memory.
  static Entry* make(std::uint64_t hash, std::string_view key, const Value& value, Instant expires) noexcept {
    const std::size_t string_size = value.kind == Kind::string ? value.string.size() : 0;
    const std::size_t used = sizeof(Entry) + key.size() + string_size;
    const std::size_t size = (used + kCacheLine - 1) / kCacheLine * kCacheLine;
    void* memory = std::aligned_alloc(kCacheLine, size);
    if (memory == nullptr) return nullptr;
    auto* entry = new (memory) Entry;
    entry->hash = hash;
    entry->charge = size + kAllocationOverhead;
    entry->key_size = static_cast<std::uint32_t>(key.size());
    entry->string_size = static_cast<std::uint32_t>(string_size);
    entry->expires.store(expires, std::memory_order_relaxed);
    entry->set(value);
    if (!key.empty()) std::memcpy(entry->bytes(), key.data(), key.size());
    if (string_size != 0) std::memcpy(entry->bytes() + key.size(), value.string.data(), string_size);
    return entry;
  }

  void pin() noexcept { pins.fetch_add(1, std::memory_order_relaxed); }  // whoever does, knows that there is one
  void unpin() noexcept {
    // acq_rel: whoever frees has seen what the others did with the bytes.
    if (pins.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    this->~Entry();
    std::free(this);
  }

  char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
  std::string_view key() noexcept { return {bytes(), key_size}; }
  bool is(std::string_view other) noexcept {
    return key_size == other.size() && detail::same_bytes(bytes(), other.data(), key_size);
  }

  // -- without any lock --

  /// Of one moment.
  [[gnu::always_inline]] Seen look() const noexcept {
    while (true) {
      const std::uint64_t seen = tag.load(std::memory_order_acquire);
      if ((seen & kHeld) != 0) {
        wait_until_free();
        continue;
      }
      // acquire: if one of these is of a later moment, the tag that is compared below is so, too.
      const Seen found = {seen, bits.load(std::memory_order_acquire), expires.load(std::memory_order_acquire)};
      if (tag.load(std::memory_order_relaxed) == seen) return found;
    }
  }

  /// What was seen gives way to a number, and `seen` tells of that; unless it has changed: then nothing happens. Who
  /// guesses right what to see has the cache line come once, and to stay: looking first takes it twice.
  [[gnu::always_inline]] bool exchange(Seen& seen, const Value& number) noexcept {
    const std::uint64_t next = tag_of(number.kind, version_of(seen) + 1);
#if defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16) && !EVLUA_TSAN  // which has its own 16 bytes, behind a lock
    using Both [[gnu::mode(TI), gnu::may_alias]] = unsigned;     // 16 bytes
    static_assert(offsetof(Entry, tag) == offsetof(Entry, bits) + 8);
    const auto both = [](std::int64_t low, std::uint64_t high) {
      return static_cast<Both>(high) << 64 | static_cast<std::uint64_t>(low);
    };
    auto* const at = reinterpret_cast<Both*>(&bits);
    if (!__sync_bool_compare_and_swap(at, both(seen.bits, seen.tag), both(number.integer, next))) return false;
#else
    const std::lock_guard guard(*this);
    if (tag.load(std::memory_order_relaxed) != (seen.tag | kHeld)) return false;
    bits.store(number.integer, std::memory_order_release);
    tag.store(next | kHeld, std::memory_order_release);
#endif
    seen.bits = number.integer;
    seen.tag = next;
    return true;
  }

  /// Somebody else is changing it again and again: it is faster for both to take turns of some length.
  static void give_way() noexcept {
    for (int i = 0; i < kTurnPauses; ++i) cpu_pause();
  }

  [[gnu::always_inline]] void copy_to(Value& value, const Seen& of) noexcept {
    value.kind = kind_of(of);
    value.integer = of.bits;  // a number's bits, too
    if (value.kind == Kind::boolean) value.boolean = of.bits != 0;
    if (value.kind == Kind::string) value.string = {bytes() + key_size, string_size};
  }

  // -- its lock --

  void lock() noexcept {
    // acquire: pairs with the release in unlock. A single access, so that the cache line comes once and to stay.
    while ((tag.fetch_or(kHeld, std::memory_order_acquire) & kHeld) != 0) wait_until_free();
  }

  void unlock() noexcept {
    // Only the holder writes it, but for those who set the bit that is set.
    tag.store(tag.load(std::memory_order_relaxed) & ~kHeld, std::memory_order_release);
  }

  // -- under the lock --

  Seen state() const noexcept {
    return {tag.load(std::memory_order_relaxed) & ~kHeld, bits.load(std::memory_order_relaxed),
            expires.load(std::memory_order_relaxed)};
  }

  Value value() noexcept {
    Value full;
    copy_to(full, state());
    return full;
  }

  /// REQUIRES: no string, unless it was made with that one.
  void set(const Value& value) noexcept {
    bits.store(value.kind == Kind::boolean ? std::int64_t{value.boolean} : value.integer, std::memory_order_release);
    tag.store(tag_of(value.kind, version_of(state()) + 1) | kHeld, std::memory_order_release);
  }

  void set_expiry(Instant when) noexcept {
    expires.store(when, std::memory_order_release);
    tag.store((state().tag + kVersionStep) | kHeld, std::memory_order_release);
  }

  /// Nobody else can have it yet: the lock is free from here on.
  void begin(std::uint64_t version) noexcept {
    tag.store(tag_of(kind_of(state()), version), std::memory_order_release);
  }

  void set_unlinked() noexcept { tag.store(state().tag | kUnlinked | kHeld, std::memory_order_release); }

 private:
  static constexpr std::size_t kAllocationOverhead = 16;
  static constexpr int kPausesMax = 256;
  static constexpr int kTurnPauses = 128;

  static std::uint64_t tag_of(Kind kind, std::uint64_t version) noexcept {
    return version * kVersionStep + static_cast<std::uint64_t>(kind) * kKindStep;
  }

  /// As SpinLock does: the holder keeps the cache line.
  void wait_until_free() const noexcept {
    for (int pauses = 32; (tag.load(std::memory_order_relaxed) & kHeld) != 0; pauses *= 2) {
      if (pauses > kPausesMax) {
        yield_processor();
        pauses = 32;
      }
      for (int i = 0; i < pauses; ++i) cpu_pause();
    }
  }
};

}  // namespace evlua
