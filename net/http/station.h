// What one worker has of a server: its connections, its handler, spare exchanges and buffers, and the sweep that ends
// waits which last too long. One sweep over all connections twice a second is far cheaper than a timer per receive.
//
// For its worker only, except where marked.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/bytes.h"
#include "core/event.h"
#include "core/intrusive.h"
#include "core/scope.h"
#include "core/task.h"
#include "core/worker.h"
#include "net/http/address_count.h"
#include "net/http/connection.h"
#include "net/http/exchange.h"
#include "net/http/limits.h"
#include "net/http/listener_set.h"
#include "net/http/pace.h"
#include "net/http/request_log.h"
#include "net/http/station_counters.h"

namespace evlua::http {

class Station {
 public:
  /// `limits`, `handler` and `addresses` must outlive the station. [any thread]
  Station(Worker& worker, Handler& handler, const Limits& limits, std::uint32_t connections_max,
          AddressCount& addresses) noexcept;
  ~Station();
  Station(const Station&) = delete;
  Station& operator=(const Station&) = delete;

  Worker& worker() noexcept { return worker_; }
  Handler& handler() noexcept { return handler_; }
  const Limits& limits() const noexcept { return limits_; }

  /// Serves what the listeners accept until `stop` is set, then drains: idle connections close, the others finish what
  /// they do and close, and after `grace` they are cut. Returns when the last one is gone. Runs on this worker.
  Task<void> run(const std::vector<Listening>& listeners, Event& stop, Duration grace);

  /// The server stops: connections must not outlast the response they are at. [any thread]
  bool stopping() const noexcept { return stopping_.load(std::memory_order_relaxed); }
  /// Makes stopping() true before run() gets to know that its `stop` was set. [any thread]
  void announce_stop() noexcept { stopping_.store(true, std::memory_order_relaxed); }
  std::size_t connection_count() const noexcept { return count_; }
  std::uint64_t requests() const noexcept { return requests_; }

  /// Who is told of exchanges that end; null: nobody. Before run().
  void set_request_log(RequestLog* log) noexcept { request_log_ = log; }
  /// Measures and counts requests, too. Before run().
  void set_measured() noexcept { measured_ = true; }
  /// [any thread, to read]
  const StationCounters& counters() const noexcept { return counters_; }
  StationCounters& counters() noexcept { return counters_; }

  // -- for connections ------------------------------------------------------------------------------------------------

  bool observed() const noexcept { return request_log_ != nullptr || measured_; }
  /// To the nanosecond; 0 when nobody wants to know.
  Instant clock() const noexcept { return observed() ? monotonic_now() : 0; }
  /// REQUIRES: observed. `end` lacks status and duration.
  void exchange_ended(Exchange& exchange, ExchangeEnd& end) noexcept;

  std::uint64_t next_id() noexcept { return first_id_ + requests_++; }
  Exchange* take_exchange() noexcept;
  void give_back(Exchange* exchange) noexcept;
  void take_buffer(Bytes& buffer) noexcept;
  void give_back(Bytes& buffer) noexcept;
  Pace& handshakes() noexcept { return handshakes_; }
  /// For whoever compresses a response piece by piece. [any thread]
  Pace& encoder_pace() noexcept { return encoder_pace_; }
  std::atomic<std::uint32_t>& encoders() noexcept { return encoders_; }
  /// Counts a connection of that address. False: there are too many.
  bool takes_place(const sockaddr* peer) noexcept;
  void leaves_place(const sockaddr* peer) noexcept { addresses_.leave(peer); }
  /// The connection's loop has ended; deletes it.
  void ended(Connection& connection) noexcept;

 private:
  Task<void> accept_loop(Listening listener);
  Task<void> accept_rest(Listening listener);
  bool may_take(int descriptor) const noexcept { return descriptor >= 0 && descriptor < descriptors_max_; }
  Task<void> sweep();
  void add(int fd, const sockaddr_in6& peer, tls::ContextSlot* tls) noexcept;

  Worker& worker_;
  Handler& handler_;
  const Limits& limits_;
  AddressCount& addresses_;
  const std::uint32_t connections_max_;
  const int descriptors_max_;
  const std::uint64_t first_id_;
  RequestLog* request_log_ = nullptr;
  bool measured_ = false;
  std::uint64_t requests_ = 0;
  std::size_t count_ = 0;
  std::atomic<bool> stopping_{false};
  List<Connection> connections_;
  std::vector<std::unique_ptr<Exchange>> spare_exchanges_;
  std::vector<Bytes> spare_buffers_;
  Event some_;  // there are connections: the sweep has something to do
  Event none_;  // the last connection is gone
  Event room_;  // fewer connections than allowed
  Pace handshakes_;
  Pace encoder_pace_;
  std::atomic<std::uint32_t> encoders_{0};  // places that are taken
  alignas(64) StationCounters counters_;
};

}  // namespace evlua::http
