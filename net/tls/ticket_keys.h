// The keys that session tickets are sealed with (RFC 5077, RFC 8446 4.6.1). They outlive a reload of certificates, so
// that clients resume across it, and change by themselves: a key seals for half a day and opens for another.
#pragma once

#include <array>
#include <cstdint>

#include "core/lockfree/spin_lock.h"
#include "core/time.h"

namespace evlua::tls {

/// Any thread.
class TicketKeys {
 public:
  struct Key {
    std::array<std::uint8_t, 16> name{};
    std::array<std::uint8_t, 16> cipher{};  // AES-128-CBC
    std::array<std::uint8_t, 32> mac{};     // HMAC-SHA256
  };
  static constexpr Duration kSealFor = 12 * 3600 * kSecond;

  /// What to seal with now.
  Key sealing(Instant now) noexcept;

  enum class Found : std::uint8_t { none, present, previous };
  /// The key of that name. `previous`: it opens, but the ticket should be sealed anew.
  Found find(const std::uint8_t* name, Instant now, Key& key) noexcept;

 private:
  void rotate(Instant now) noexcept;

  SpinLock lock_;
  Key present_, previous_;
  Instant since_ = 0;  // 0: there is none yet
  bool has_previous_ = false;
};

}  // namespace evlua::tls
