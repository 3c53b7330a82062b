// The applications of one worker: the same app in several Vms, so that a request finds one that is idle.
#pragma once

#include <utility>
#include <vector>

#include "lua/http_app.h"

namespace evlua::lua {

class HttpPool final : public http::Handler {
 public:
  explicit HttpPool(std::vector<HttpApp*> apps) : apps_(std::move(apps)) {}

  bool handle(http::Exchange& exchange) noexcept override {
    for (HttpApp* app : apps_) {
      bool complete = false;
      if (app->try_handle(exchange, complete)) return complete;
    }
    apps_[turn_++ % apps_.size()]->queue(exchange);
    return false;
  }
  void abandon(http::Exchange& exchange) noexcept override { HttpApp::abandon(exchange); }
  void expire(http::Exchange& exchange) noexcept override { HttpApp::expire(exchange); }
  void examine(http::Exchange& exchange) noexcept override { HttpApp::examine(exchange); }

 private:
  const std::vector<HttpApp*> apps_;  // the first is warm: it is asked first
  std::size_t turn_ = 0;
};

}  // namespace evlua::lua
