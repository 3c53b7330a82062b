// The applications of one worker: the same app in several Vms, so that a request finds one that is idle.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "core/worker.h"
#include "lua/http_app.h"

namespace evlua::lua {

class HttpPool final : public http::Handler {
 public:
  explicit HttpPool(std::vector<HttpApp*> apps, const http::Admission::Options& admission = {})
      : apps_(std::move(apps)), admission_(admission) {
    for (HttpApp* app : apps_) app->set_admission(admission_);
  }

  bool handle(http::Exchange& exchange) noexcept override {
    const Instant now = Worker::current().backend().now();  // the worker's is too old
    if (!admission_.admits(exchange, now, expected_wait(now), http::Admission::At::arrival)) return refuse(exchange);
    for (HttpApp* app : apps_) {
      bool complete = false;
      if (app->try_handle(exchange, complete)) return complete;
    }
    if (!admission_.enter_queue()) return refuse(exchange);
    apps_[turn_++ % apps_.size()]->queue(exchange);
    return false;
  }
  void abandon(http::Exchange& exchange) noexcept override { HttpApp::abandon(exchange); }
  void expire(http::Exchange& exchange) noexcept override { HttpApp::expire(exchange); }
  void examine(http::Exchange& exchange) noexcept override { HttpApp::examine(exchange); }

 private:
  /// In the Vm that is best off.
  Duration expected_wait(Instant now) const noexcept {
    Duration least = kNever;
    for (const HttpApp* app : apps_) least = std::min(least, app->expected_wait(now));
    return least;
  }
  static bool refuse(http::Exchange& exchange) noexcept {
    HttpApp::counts().shed.add(1);
    exchange.fail_for_now();
    return true;
  }

  const std::vector<HttpApp*> apps_;  // the first is warm: it is asked first
  http::Admission admission_;
  std::size_t turn_ = 0;
};

}  // namespace evlua::lua
