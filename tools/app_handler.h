// Where the requests of one worker go: to the present generation of the app.
#pragma once

#include "net/http/exchange.h"
#include "tools/generation.h"

namespace evlua::tools {

/// Used on its worker, and before the server runs.
class AppHandler final : public http::Handler {
 public:
  void switch_to(http::Handler& present) noexcept { present_ = &present; }

  bool handle(http::Exchange& exchange) noexcept override { return present_->handle(exchange); }
  // Whoever has the exchange is told, of whichever generation it is.
  void abandon(http::Exchange& exchange) noexcept override { lua::HttpApp::abandon(exchange); }
  void expire(http::Exchange& exchange) noexcept override { lua::HttpApp::expire(exchange); }
  void examine(http::Exchange& exchange) noexcept override { lua::HttpApp::examine(exchange); }

 private:
  http::Handler* present_ = nullptr;
};

}  // namespace evlua::tools
