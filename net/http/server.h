// The HTTP server: one station per worker, each with its own handler and its own listening descriptors.
//
// Give every worker a TCP listener of its own with SO_REUSEPORT, so that the kernel spreads connections; a Unix-domain
// listener is shared by naming its descriptor for several workers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/event.h"
#include "core/scheduler.h"
#include "core/task.h"
#include "net/http/address_count.h"
#include "net/http/exchange.h"
#include "net/http/limits.h"
#include "net/http/listener_set.h"
#include "net/http/station.h"

namespace evlua::http {

class Server {
 public:
  struct Options {
    Limits limits;
    Duration grace = 30 * kSecond;  ///< how long requests may go on after stop
    bool measured = false;          ///< count requests and how long they take
    std::vector<RequestLog*> logs;  ///< one per worker, which must outlive the server; or none
  };

  /// `handlers` has one entry per worker; they must outlive the server. Limits beyond what the parser can store are
  /// lowered.
  Server(Scheduler& scheduler, const Options& options, const std::vector<Handler*>& handlers);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Serves until stop() or cancellation, then drains: when it returns no connection is left. `listeners[i]` are the
  /// descriptors worker i accepts from; they stay the caller's, as the list does. Called once.
  Task<void> serve(const std::vector<std::vector<Listening>>& listeners);

  /// Stops accepting, closes idle connections, lets the others finish their response: the last one that any connection
  /// gets, whichever worker it is on. [any thread]
  void stop() noexcept;

  /// Limits as they are applied.
  const Limits& limits() const noexcept { return limits_; }
  const Station& station(std::size_t worker) const noexcept { return *stations_[worker]; }

 private:
  Scheduler& scheduler_;
  const Limits limits_;
  const Duration grace_;
  AddressCount addresses_;
  std::vector<std::unique_ptr<Station>> stations_;
  Event stop_;
};

}  // namespace evlua::http
