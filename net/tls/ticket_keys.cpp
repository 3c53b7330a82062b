#include "net/tls/ticket_keys.h"

#include <openssl/rand.h>

#include <cstring>
#include <mutex>

namespace evlua::tls {

/// Under the lock. Two periods without a ticket leave nothing that may still open one.
void TicketKeys::rotate(Instant now) noexcept {
  if (since_ != 0 && now - since_ < kSealFor) return;
  has_previous_ = since_ != 0 && now - since_ < 2 * kSealFor;
  previous_ = present_;
  RAND_bytes(present_.name.data(), present_.name.size());
  RAND_bytes(present_.cipher.data(), present_.cipher.size());
  RAND_bytes(present_.mac.data(), present_.mac.size());
  since_ = now;
}

TicketKeys::Key TicketKeys::sealing(Instant now) noexcept {
  const std::lock_guard guard(lock_);
  rotate(now);
  return present_;
}

TicketKeys::Found TicketKeys::find(const std::uint8_t* name, Instant now, Key& key) noexcept {
  const std::lock_guard guard(lock_);
  rotate(now);
  if (std::memcmp(present_.name.data(), name, present_.name.size()) == 0) {
    key = present_;
    return Found::present;
  }
  if (has_previous_ && std::memcmp(previous_.name.data(), name, previous_.name.size()) == 0) {
    key = previous_;
    return Found::previous;
  }
  return Found::none;
}

}  // namespace evlua::tls
