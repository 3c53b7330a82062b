// Goal: a ticket can be used for as long as is promised, across one change of the keys, and no longer.
#include "net/tls/ticket_keys.h"

#include "tests/support/doctest.h"

namespace evlua::tls {
namespace {

constexpr Instant kStart = 5 * kSecond;
constexpr Duration kPeriod = TicketKeys::kSealFor;

TicketKeys::Found find(TicketKeys& keys, const TicketKeys::Key& wanted, Instant now) {
  TicketKeys::Key key;
  const TicketKeys::Found found = keys.find(wanted.name.data(), now, key);
  if (found != TicketKeys::Found::none) {
    CHECK(key.cipher == wanted.cipher);
    CHECK(key.mac == wanted.mac);
  }
  return found;
}

TEST_CASE("a key seals for its period, opens for another, and is gone") {
  TicketKeys keys;
  const TicketKeys::Key first = keys.sealing(kStart);
  CHECK(keys.sealing(kStart + kPeriod - 1).name == first.name);
  CHECK(find(keys, first, kStart + kPeriod - 1) == TicketKeys::Found::present);
  CHECK(find(keys, first, kStart + kPeriod) == TicketKeys::Found::previous);
  const TicketKeys::Key second = keys.sealing(kStart + kPeriod);
  CHECK(second.name != first.name);
  CHECK(second.cipher != first.cipher);
  CHECK(second.mac != first.mac);
  CHECK(find(keys, first, kStart + 2 * kPeriod - 1) == TicketKeys::Found::previous);
  CHECK(find(keys, first, kStart + 2 * kPeriod) == TicketKeys::Found::none);
  CHECK(find(keys, second, kStart + 2 * kPeriod) == TicketKeys::Found::previous);
}

TEST_CASE("after two quiet periods nothing opens") {
  TicketKeys keys;
  const TicketKeys::Key first = keys.sealing(kStart);
  CHECK(find(keys, first, kStart + 2 * kPeriod) == TicketKeys::Found::none);
  CHECK(find(keys, first, kStart + 2 * kPeriod) == TicketKeys::Found::none);
}

TEST_CASE("names that nobody has made are unknown") {
  TicketKeys keys;
  const TicketKeys::Key nobody;
  CHECK(find(keys, nobody, kStart) == TicketKeys::Found::none);
  CHECK(find(keys, keys.sealing(kStart), kStart) == TicketKeys::Found::present);
}

}  // namespace
}  // namespace evlua::tls
