// evluaserver's life: Vms, the app in each, listeners, serving, draining.
#pragma once

#include <string>
#include <vector>

#include "core/scheduler.h"
#include "core/task.h"
#include "lua/signals.h"
#include "net/address.h"
#include "net/http/limits.h"
#include "net/http/static_handler.h"
#include "net/tls/context.h"

namespace evlua::tools {

struct ListenAddress {
  net::Address address;
  bool tls = false;
};

struct ServerOptions {
  std::string app;
  std::vector<ListenAddress> listen;
  tls::ServerOptions tls;
  std::vector<http::StaticFolder> folders;
  bool tls_development = false;  ///< without certificates: make one
  http::Limits limits;
  Duration grace = 30 * kSecond;
  bool development = false;  ///< error pages show tracebacks
  bool watch = false;        ///< load the app again when its files have changed
  unsigned vms = 1;          ///< Lua states of each worker
  std::size_t vm_memory = std::size_t{1} << 30;
  Duration cpu_limit = kNever;  ///< of one request
};

/// The exit code. REQUIRES: `options` and `signals` outlive the task.
Task<int> run_server(Scheduler& scheduler, const ServerOptions& options, lua::SignalHub& signals);

}  // namespace evlua::tools
