// evluaserver's life: Vms, the app in each, listeners, serving, draining.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/scheduler.h"
#include "core/task.h"
#include "lua/signals.h"
#include "net/address.h"
#include "net/http/limits.h"
#include "net/http/static_handler.h"
#include "net/tls/context.h"
#include "tools/certificates.h"
#include "tools/handover.h"
#include "tools/observe.h"
#include "tools/stop_limit.h"

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
  ObserveOptions observe;
  Duration grace = 30 * kSecond;        ///< for requests
  Duration stop_limit = 10 * kSecond;   ///< for everything else that has to end
  Duration start_limit = 60 * kSecond;  ///< for a reload, or a successor
  bool development = false;             ///< error pages show tracebacks
  bool watch = false;                   ///< load the app again when its files have changed
  unsigned vms = 1;                     ///< Lua states of each worker
  std::size_t vm_memory = std::size_t{1} << 30;
  std::vector<std::string> compat;  ///< what Lua states opt for of evlua.compat
  Duration cpu_limit = kNever;      ///< of one request
  std::string pid_file;
  ProgramStart program;  ///< who is started on SIGUSR2
};

/// What wants privileges that may be gone later.
struct Prepared {
  std::unique_ptr<Observer> observer;
  http::HandedSockets sockets;
  std::unique_ptr<Certificates> certificates;  ///< null when no address wants any
};

/// Reads the certificates. The error is what to print. Blocks.
tl::expected<std::unique_ptr<Certificates>, std::string> load_certificates(const ServerOptions& options);

/// Loads the app without starting it, prints what is wrong or that it is good; the exit code.
Task<int> check_server(Scheduler& scheduler, const ServerOptions& options);

/// What SIGHUP and SIGUSR2 do. What comes before we serve is done then; what comes later, never. [any thread]
void reload_everything();
void hand_over_soon();

/// The exit code. REQUIRES: what it refers to outlives the task.
Task<int> run_server(Scheduler& scheduler, const ServerOptions& options, Prepared& prepared, lua::SignalHub& signals,
                     StopLimit& stop_limit);

}  // namespace evlua::tools
