#include "net/http/server.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/scope.h"

namespace evlua::http {

namespace {

/// Positions in a head must fit, request line, fields and a few empty lines together.
Limits storable(Limits limits) noexcept {
  limits.request_line_bytes = std::min(limits.request_line_bytes, kHeadBytesMax / 2);
  limits.header_block_bytes = std::min(limits.header_block_bytes, kHeadAndLineBytesMax - limits.request_line_bytes);
  limits.header_fields = std::min(limits.header_fields, kHeaderFieldsMax);
  return limits;
}

}  // namespace

Server::Server(Scheduler& scheduler, const Options& options, const std::vector<Handler*>& handlers)
    : scheduler_(scheduler), limits_(storable(options.limits)), grace_(options.grace) {
  EVLUA_CHECK(handlers.size() == scheduler.worker_count());
  const std::uint32_t share = limits_.connections / scheduler.worker_count();
  for (unsigned index = 0; index < scheduler.worker_count(); ++index) {
    stations_.push_back(
        std::make_unique<Station>(scheduler.worker(index), *handlers[index], limits_, share, addresses_));
    if (options.measured) stations_.back()->set_measured();
    if (!options.logs.empty()) stations_.back()->set_request_log(options.logs[index]);
  }
}

Server::~Server() = default;

void Server::stop() noexcept {
  for (const std::unique_ptr<Station>& station : stations_) station->announce_stop();
  stop_.set();
}

Task<void> Server::serve(const std::vector<std::vector<Listening>>& listeners) {
  EVLUA_CHECK(listeners.size() == stations_.size());
  TaskScope scope(scheduler_);
  for (std::size_t index = 0; index < stations_.size(); ++index) {
    Station& station = *stations_[index];
    scope.spawn_on(station.worker().pinned(), station.run(listeners[index], stop_, grace_));
  }
  co_await scope.join();
}

}  // namespace evlua::http
