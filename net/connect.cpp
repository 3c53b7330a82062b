#include "net/connect.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "core/event.h"
#include "core/io_await.h"
#include "core/lockfree/spin_lock.h"
#include "core/scope.h"
#include "core/worker.h"
#include "net/resolver.h"

namespace evlua::net {

namespace {

/// The families by turns, each in its order, the best address in front.
std::vector<Address> interleave(const std::vector<Address>& addresses) {
  std::vector<Address> ordered;
  const int first = addresses.front().family();
  auto preferred = addresses.begin();
  auto other = addresses.begin();
  const auto skip = [&](auto& at, bool wants_first) {
    while (at != addresses.end() && (at->family() == first) != wants_first) ++at;
    if (at != addresses.end()) ordered.push_back(*at++);
  };
  while (ordered.size() < addresses.size()) {
    skip(preferred, true);
    skip(other, false);
  }
  return ordered;
}

/// What the attempts share. They may run on several workers.
struct Race {
  SpinLock lock;
  Event changed;
  Socket winner;
  Error error{EHOSTUNREACH, ErrorDomain::system, OpCode::connect};
  std::size_t running = 0;

  void began() noexcept {
    lock.lock();
    ++running;
    lock.unlock();
  }
  /// The socket of one that comes too late is closed.
  void ended(Result<Socket> attempt) noexcept {
    lock.lock();
    --running;
    if (!attempt) {
      error = attempt.error();
    } else if (!winner.is_open()) {
      winner = std::move(*attempt);
    }
    lock.unlock();
    changed.set();
  }
  /// How many attempts run; none matters any more once there is a winner.
  std::size_t look(bool& is_won) noexcept {
    lock.lock();
    is_won = winner.is_open();
    const std::size_t count = running;
    lock.unlock();
    return count;
  }
};

Task<void> attempt(Race& race, Address address, Instant deadline) {
  Result<Socket> socket = co_await connect(address, deadline);
  race.ended(std::move(socket));
}

}  // namespace

Task<Result<Socket>> connect(Address address, Instant deadline) {
  Result<Socket> socket = Socket::make(address.family());
  if (!socket) co_return fail(socket.error());
  IoAwait op(OpCode::connect, socket->fd(), OpArgs{.connect = {address.get(), address.length()}});
  op.until(deadline);
  const Result<std::int32_t> connected = co_await op;
  if (!connected) co_return fail(connected.error());
  socket->set_no_delay();
  co_return std::move(*socket);
}

Task<Result<Socket>> connect_first(std::vector<Address> addresses, Instant deadline) {
  if (addresses.empty()) co_return fail(EHOSTUNREACH, OpCode::connect);
  if (addresses.size() == 1) {
    Result<Socket> only = co_await connect(addresses.front(), deadline);
    co_return only;
  }
  const TaskContext& context = co_await current_context();
  deadline = std::min(deadline, context.deadline);
  const std::vector<Address> ordered = interleave(addresses);
  Race race;
  TaskScope scope(*context.home, deadline);
  std::size_t next = 0;
  Instant next_at = 0;
  std::optional<Error> stopped;
  while (!stopped) {
    race.changed.reset();
    bool is_won = false;
    const std::size_t running = race.look(is_won);
    const bool is_last = next == ordered.size();
    if (is_won || (is_last && running == 0)) break;
    const Instant now = Worker::current().backend().now();
    if (!is_last && (running == 0 || now >= next_at)) {
      race.began();
      scope.spawn(attempt(race, ordered[next++], deadline));
      next_at = deadline_after(now, kAttemptDelay);
      continue;
    }
    const Result<void> woken = co_await race.changed.wait(is_last ? deadline : std::min(deadline, next_at));
    const bool is_late = Worker::current().backend().now() >= deadline;
    if (!woken && (is_late || !woken.error().is(ETIMEDOUT))) {
      stopped = Error{woken.error().code, ErrorDomain::system, OpCode::connect};
    }
  }
  scope.cancel();
  co_await scope.join();
  if (race.winner.is_open()) co_return std::move(race.winner);
  co_return fail(stopped.value_or(race.error));
}

Task<Result<Socket>> connect(std::string host, std::uint16_t port, Instant deadline, DnsSettings settings) {
  if (host.rfind("unix:", 0) == 0) {
    const Result<Address> local = Address::parse(host);
    if (!local) co_return fail(local.error().code, OpCode::connect);
    Result<Socket> socket = co_await connect(*local, deadline);
    co_return socket;
  }
  Task<Result<std::vector<Address>>> resolving =
      resolve(std::move(host), port, deadline, std::move(settings), AF_UNSPEC);
  Result<std::vector<Address>> addresses = co_await std::move(resolving);
  if (!addresses) co_return fail(addresses.error());
  Result<Socket> socket = co_await connect_first(std::move(*addresses), deadline);
  co_return socket;
}

Task<Result<Socket>> connect(std::string host, std::uint16_t port, Instant deadline) {
  return connect(std::move(host), port, deadline, DnsSettings());  // see resolve
}

}  // namespace evlua::net
