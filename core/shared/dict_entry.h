// An entry of a Dict.
//
// Which entries there are is decided under their shard's lock. What one of them holds changes under its own lock, also
// when only a cache knows it: so an increment of a known entry needs no other, and reading it moves no cache line
// between processors. Who needs both takes the shard's first.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>

#include "core/lockfree/pause.h"
#include "core/lockfree/seq_lock.h"
#include "core/shared/dict.h"
#include "core/shared/dict_hash.h"

namespace evlua {

// A dictionary may outlive a simulated run, and what a cache knows depends on where strings lie.
using EntryLock = BasicSeqLock<PlainAtomics>;

/// The bytes of the key lie behind it, then those of a string.
struct alignas(kCacheLine) Dict::Entry {
  template <class T>
  using Atomic = PlainAtomics::Atomic<T>;
  using Kind = Value::Kind;

  /// What it holds at one moment.
  struct State {
    Kind kind = Kind::nil;
    bool unlinked = false;  // the dictionary does not have it any more
    std::int64_t bits = 0;  // of a scalar
    std::uint64_t version = 0;
    Instant expires = kNever;
  };

  // -- one cache line: all that a known entry is read and incremented by --

  EntryLock lock;
  Atomic<Kind> kind{Kind::nil};
  Atomic<bool> unlinked{false};
  Atomic<bool> used{false};  // by somebody who did not move it in its shard's list
  Atomic<std::int64_t> bits{0};
  Atomic<std::uint64_t> version{0};
  Atomic<Instant> expires{kNever};
  std::uint64_t hash = 0;
  std::uint32_t key_size = 0;
  std::uint32_t string_size = 0;

  // -- under the shard's lock, but for the pins --

  Entry* chain = nullptr;  // in its bucket; or in a Removed
  Entry* newer = nullptr;  // by use
  Entry* older = nullptr;
  std::size_t charge = 0;         // what it counts against the bound
  Atomic<std::uint32_t> pins{1};  // one is the dictionary's own
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

  // -- with or without the lock --

  /// Of one moment, if the lock is held; else see `look`.
  [[gnu::always_inline]] State state() const noexcept {
    // acquire: see SeqLock::unchanged.
    return {kind.load(std::memory_order_acquire), unlinked.load(std::memory_order_acquire),
            bits.load(std::memory_order_acquire), version.load(std::memory_order_acquire),
            expires.load(std::memory_order_acquire)};
  }

  /// Without any lock.
  [[gnu::always_inline]] State look() const noexcept {
    while (true) {
      const std::uint32_t seen = lock.begin_read();
      const State found = state();
      if (lock.unchanged(seen)) return found;
    }
  }

  [[gnu::always_inline]] void copy_to(Value& value, const State& of) noexcept {
    value.kind = of.kind;
    value.integer = of.bits;  // a number's bits, too
    if (of.kind == Kind::boolean) value.boolean = of.bits != 0;
    if (of.kind == Kind::string) value.string = {bytes() + key_size, string_size};
  }

  // -- under the lock --

  /// REQUIRES: no string, unless it was made with that one.
  void set(const Value& value) noexcept {
    kind.store(value.kind, std::memory_order_release);
    bits.store(value.kind == Kind::boolean ? std::int64_t{value.boolean} : value.integer, std::memory_order_release);
  }

  Value value() noexcept {
    Value full;
    copy_to(full, state());
    return full;
  }

  void set_version(std::uint64_t number) noexcept { version.store(number, std::memory_order_release); }
  void count_change() noexcept { set_version(version.load(std::memory_order_relaxed) + 1); }

 private:
  static constexpr std::size_t kAllocationOverhead = 16;
};

}  // namespace evlua
