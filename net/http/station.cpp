#include "net/http/station.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "core/io_await.h"
#include "core/log.h"
#include "core/seldom.h"
#include "net/address.h"

namespace evlua::http {

namespace {

constexpr std::size_t kSpareExchanges = 128;
constexpr std::size_t kSpareBuffers = 128;
constexpr std::size_t kBufferBytes = 16 * 1024;
constexpr std::uint32_t kHandshakesInARow = 4;
constexpr std::uint32_t kPiecesInARow = 1;  // compressed
constexpr Duration kAcceptPause = 50 * kMillisecond;
constexpr Duration kLastLook = 2 * kMillisecond;     // at a listener
constexpr Duration kLastLooks = 100 * kMillisecond;  // all of them
constexpr std::size_t kSweepPart = 256;              // connections

/// How often the sweep looks: an eighth of the shortest limit, at least twice a second.
Duration sweep_interval(const Limits& limits) noexcept {
  const Duration shortest =
      std::min({limits.header_timeout, limits.handshake_timeout, limits.body_timeout, limits.keep_alive_timeout,
                limits.send_timeout, limits.handler_timeout, limits.slow_after});
  return std::clamp(shortest / 8, 5 * kMillisecond, 500 * kMillisecond);
}

/// From this one on they are for others.
int descriptors_for_connections(const Limits& limits) noexcept {
  rlimit all{};
  if (limits.descriptors_left == 0 || ::getrlimit(RLIMIT_NOFILE, &all) != 0) return std::numeric_limits<int>::max();
  const rlim_t most = all.rlim_cur - std::min<rlim_t>(limits.descriptors_left, all.rlim_cur / 8);
  return static_cast<int>(std::min<rlim_t>(most, std::numeric_limits<int>::max()));
}

/// The one that would be given out next; less than 0: none would.
int next_descriptor(int any) noexcept {
  const int next = ::fcntl(any, F_DUPFD_CLOEXEC, 0);
  if (next >= 0) ::close(next);
  return next;
}

/// accept(2): failures that concern one connection, not the listener.
bool concerns_one_connection(const Error& error) noexcept {
  return error.is(ECONNABORTED) || error.is(EINTR) || error.is(EPROTO) || error.is(EPERM) || error.is(ENETDOWN) ||
         error.is(EHOSTDOWN) || error.is(ECANCELED) || error.is(EHOSTUNREACH) || error.is(ENETUNREACH) ||
         error.is(ENOPROTOOPT);
}

}  // namespace

Station::Station(Worker& worker, Handler& handler, const Limits& limits, std::uint32_t connections_max,
                 AddressCount& addresses) noexcept
    : worker_(worker),
      handler_(handler),
      limits_(limits),
      addresses_(addresses),
      connections_max_(std::max(connections_max, 1U)),
      descriptors_max_(descriptors_for_connections(limits)),
      first_id_((std::uint64_t{worker.index()} << 48) + 1),
      handshakes_(worker, Pace::Of::worker, kHandshakesInARow),
      encoder_pace_(worker, Pace::Of::any_thread, kPiecesInARow) {}

Station::~Station() { EVLUA_CHECK(count_ == 0); }

Task<void> Station::run(const std::vector<Listening>& listeners, Event& stop, Duration grace) {
  TaskScope accepting(worker_.pinned());
  TaskScope sweeping(worker_.pinned());
  for (const Listening listener : listeners) accepting.spawn(accept_loop(listener));
  sweeping.spawn(sweep());
  sweeping.spawn(handshakes_.run());
  sweeping.spawn(encoder_pace_.run());
  co_await stop.wait();  // being cancelled means the same
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  context.deadline = kNever;

  accepting.cancel();
  co_await accepting.join();
  announce_stop();  // it may be by cancellation
  connections_.for_each([](Connection& connection) { connection.stop(); });
  if (count_ != 0) {
    const Result<void> drained = co_await none_.wait(deadline_after(worker_.now(), grace));
    if (!drained) connections_.for_each([](Connection& connection) { connection.abandon(); });
  }
  if (count_ != 0) co_await none_.wait();
  sweeping.cancel();
  co_await sweeping.join();
}

Task<void> Station::accept_loop(Listening listener) {
  TaskContext& context = co_await current_context();
  CancelState& stop = *context.cancel;
  while (true) {
    if (count_ >= connections_max_) {
      counters_.full.add();
      room_.reset();
      const Result<void> room = co_await room_.wait();
      if (!room) co_return;
      continue;
    }
    sockaddr_in6 peer{};
    socklen_t peer_bytes = sizeof peer;
    // A longer address, of a Unix-domain client, is cut: nothing of it is used.
    const Result<std::int32_t> accepted =
        co_await io::accept(listener.fd, reinterpret_cast<sockaddr*>(&peer), &peer_bytes);
    if (accepted) add(*accepted, peer, listener.tls);
    if (accepted && may_take(*accepted)) continue;
    const Error error = accepted ? Error{EMFILE, ErrorDomain::system, OpCode::accept} : accepted.error();
    if (stop.why() != OpStop::none) break;
    if (concerns_one_connection(error)) continue;
    counters_.accept_failures.add();
    static Seldom told;
    if (told.due(worker_.now())) {
      Log::warn("cannot accept connections, which wait: %s; see ulimit -n and --max-connections",
                error.message().c_str());
    }
    // Out of descriptors or memory: connections wait in the backlog until some are free again.
    do {
      const Result<std::int32_t> paused = co_await io::sleep_until(deadline_after(worker_.now(), kAcceptPause));
      if (!paused) co_return;
    } while (limits_.descriptors_left != 0 && !may_take(next_descriptor(listener.fd)));
  }
  context.cancel = nullptr;
  co_await accept_rest(listener);
}

/// A connection that came while the accept was cancelled may have woken nobody else (io_uring wakes one of those that
/// wait, in whichever process): it would wait for the next one to come.
Task<void> Station::accept_rest(Listening listener) {
  const Instant until = deadline_after(worker_.now(), kLastLooks);
  while (count_ < connections_max_ && worker_.now() < until) {
    IoAwait look = io::poll(listener.fd, POLLIN);
    look.until(deadline_after(worker_.now(), kLastLook));
    const Result<std::int32_t> ready = co_await look;
    if (!ready) co_return;
    sockaddr_in6 peer{};
    socklen_t peer_bytes = sizeof peer;
    IoAwait accept = io::accept(listener.fd, reinterpret_cast<sockaddr*>(&peer), &peer_bytes);
    accept.until(deadline_after(worker_.now(), kLastLook));
    const Result<std::int32_t> accepted = co_await accept;
    if (accepted) add(*accepted, peer, listener.tls);
  }
}

void Station::add(int fd, const sockaddr_in6& peer, tls::ContextSlot* tls) noexcept {
  auto* connection = new Connection(*this, fd, peer, tls);
  if (!connection->takes_its_place()) {
    delete connection;
    worker_.close_later(fd);
    return;
  }
  connections_.push_back(*connection);
  counters_.accepted.add();
  if (count_++ == 0) {
    none_.reset();
    some_.set();
  }
  connection->start();
}

void Station::ended(Connection& connection) noexcept {
  List<Connection>::erase(connection);
  delete &connection;
  counters_.closed.add();
  if (count_-- == connections_max_) room_.set();
  if (count_ == 0) {
    some_.reset();
    none_.set();
  }
}

bool Station::takes_place(const sockaddr* peer) noexcept {
  if (addresses_.enter(peer, limits_.connections_per_address)) return true;
  counters_.turned_away.add();
  static Seldom told;
  if (!told.due(worker_.now())) return false;
  const bool v6 = peer->sa_family == AF_INET6;
  const auto address = net::Address::from(peer, v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
  Log::warn("%s has %u connections open, and gets no more; see --max-connections-per-address and --trusted-proxy",
            address.to_string().c_str(), limits_.connections_per_address);
  return false;
}

/// In parts, of which each begins where the last one has ended: nobody waits for a look at thousands of connections.
Task<void> Station::sweep() {
  const Duration interval = sweep_interval(limits_);
  while (true) {
    const Result<void> woken = co_await some_.wait();
    if (!woken) co_return;
    const auto parts =
        std::clamp<std::size_t>(count_ / kSweepPart, 1, static_cast<std::size_t>(interval / kMillisecond));
    const Result<std::int32_t> slept =
        co_await io::sleep_until(deadline_after(worker_.now(), interval / static_cast<Duration>(parts)));
    if (!slept) co_return;
    const Instant now = worker_.now();
    for (std::size_t left = count_ / parts + 1; left > 0; --left) {
      Connection* connection = connections_.pop_front();
      if (connection == nullptr) break;
      connections_.push_back(*connection);
      connection->check_deadline(now);
    }
  }
}

void Station::exchange_ended(Exchange& exchange, ExchangeEnd& end) noexcept {
  end.status = exchange.status();
  end.duration = monotonic_now() - exchange.began_;
  counters_.statuses[static_cast<std::size_t>(std::clamp(end.status / 100, 1, 5) - 1)].add();
  counters_.count_duration(end.duration);
  if (end.refused) counters_.refused.add();
  if (end.aborted) counters_.aborted.add();
  if (request_log_ != nullptr) request_log_->ended(exchange, end);
}

Exchange* Station::take_exchange() noexcept {
  if (spare_exchanges_.empty()) return new Exchange;
  Exchange* exchange = spare_exchanges_.back().release();
  spare_exchanges_.pop_back();
  return exchange;
}

void Station::give_back(Exchange* exchange) noexcept {
  if (spare_exchanges_.size() < kSpareExchanges) {
    spare_exchanges_.emplace_back(exchange);
  } else {
    delete exchange;
  }
}

void Station::take_buffer(Bytes& buffer) noexcept {
  if (buffer.capacity() != 0) return;
  if (!spare_buffers_.empty()) {
    buffer.swap(spare_buffers_.back());
    spare_buffers_.pop_back();
  }
  buffer.reserve(kBufferBytes);  // what was given back may have been smaller
}

void Station::give_back(Bytes& buffer) noexcept {
  if (buffer.capacity() == 0) return;
  if (buffer.capacity() <= kBufferBytes * 2 && spare_buffers_.size() < kSpareBuffers) {
    buffer.clear();
    spare_buffers_.emplace_back(std::move(buffer));
  } else {
    buffer.release();
  }
}

}  // namespace evlua::http
