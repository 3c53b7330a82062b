#include "tools/server_app.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>

#include "core/scope.h"
#include "net/http/listener_set.h"
#include "net/http/server.h"
#include "tools/app_handler.h"
#include "tools/certificates.h"
#include "tools/reloader.h"
#include "tools/runtime.h"

namespace evlua::tools {

namespace {

std::atomic<http::Server*> serving{nullptr};
std::atomic<int> stops_asked{0};
std::atomic<Certificates*> certificates_in_use{nullptr};
std::atomic<Reloader*> app_in_use{nullptr};

/// The first SIGINT or SIGTERM drains, the second leaves at once.
void stop_serving(lua::Vm&, int signal) {
  if (stops_asked.fetch_add(1) > 0) leave(128 + signal);
  http::Server* server = serving.load();
  if (server == nullptr) leave(128 + signal);
  std::fprintf(stderr, "evluaserver: stopping\n");
  server->stop();
}

void reload_everything() {
  if (Certificates* certificates = certificates_in_use.load()) certificates->reload_soon();
  if (Reloader* app = app_in_use.load()) app->reload_soon();
}

Generation::Options generation_options(const ServerOptions& options) {
  Generation::Options made;
  made.app = options.app;
  made.vms = options.vms;
  made.vm.memory_max = options.vm_memory;
  made.app_options.show_errors = options.development;
  made.app_options.cpu_limit = options.cpu_limit;
  made.app_options.time_limit = options.limits.handler_timeout;
  return made;
}

/// Null when no address wants any; false in `good` after printing what is wrong.
std::unique_ptr<Certificates> load_certificates(const ServerOptions& options, bool& good) {
  const bool wanted = std::any_of(options.listen.begin(), options.listen.end(), [](const auto& at) { return at.tls; });
  if (!wanted) return nullptr;
  Certificates::Loaded loaded = Certificates::load(options.tls, options.tls_development);
  if (loaded) return std::move(*loaded);
  std::fprintf(stderr, "evluaserver: %s\n", loaded.error().c_str());
  good = false;
  return nullptr;
}

bool listen_all(const ServerOptions& options, Certificates* certificates, http::ListenerSet& listeners) {
  for (const auto& [address, tls] : options.listen) {
    const Result<void> added = listeners.add(address, tls ? &certificates->slot() : nullptr);
    if (added) continue;
    const bool in_use = added.error().is(EADDRINUSE);
    std::fprintf(stderr, "evluaserver: cannot listen on %s: %s%s\n", address.to_string().c_str(),
                 added.error().message().c_str(), in_use ? "; stop the program that uses it, or choose another" : "");
    return false;
  }
  return true;
}

bool open_folders(const ServerOptions& options, http::StaticFolders& folders) {
  for (const http::StaticFolder& folder : options.folders) {
    const Result<void> added = folders.add(folder);
    if (added) continue;
    std::fprintf(stderr, "evluaserver: --static %s: %s\n", folder.directory.c_str(), added.error().message().c_str());
    return false;
  }
  return true;
}

void announce(const ServerOptions& options, const http::ListenerSet& listeners) {
  for (std::size_t i = 0; i < options.listen.size(); ++i) {
    const net::Address& address = listeners.addresses()[i];
    const char* scheme = options.listen[i].tls ? "https://" : "http://";
    std::fprintf(stderr, "evluaserver: listening on %s%s\n", address.is_unix() ? "" : scheme,
                 address.to_string().c_str());
  }
}

}  // namespace

Task<int> run_server(Scheduler& scheduler, const ServerOptions& options, lua::SignalHub& signals) {
  std::vector<AppHandler> apps(scheduler.worker_count());
  const Reloader::Options reloading{options.grace, options.watch};
  Reloader app(scheduler, generation_options(options), reloading, apps, signals);
  const auto loaded = co_await app.start(stop_serving);
  if (!loaded) std::fprintf(stderr, "evluaserver: %s\n", loaded.error().c_str());
  bool good = loaded.has_value();
  const std::unique_ptr<Certificates> certificates = good ? load_certificates(options, good) : nullptr;
  http::ListenerSet listeners(scheduler.worker_count());
  http::StaticFolders folders;
  if (!good || !listen_all(options, certificates.get(), listeners) || !open_folders(options, folders)) co_return 1;

  std::vector<std::unique_ptr<http::StaticHandler>> statics;
  std::vector<http::Handler*> handlers;
  for (AppHandler& own : apps) {
    handlers.push_back(&own);
    if (folders.empty()) continue;
    statics.push_back(std::make_unique<http::StaticHandler>(folders, &own, scheduler));
    handlers.back() = statics.back().get();
  }
  http::Server::Options server_options;
  server_options.limits = options.limits;
  server_options.grace = options.grace;
  http::Server server(scheduler, server_options, handlers);
  serving.store(&server);
  certificates_in_use.store(certificates.get());
  app_in_use.store(&app);
  signals.set_stuck_action(stop_serving);
  signals.set_action(SIGHUP, reload_everything);
  signals.attach(app.first_vm(), stop_serving);
  TaskScope watching(scheduler);
  if (certificates != nullptr) watching.spawn(certificates->watch(scheduler.pool()));
  watching.spawn(app.run());
  announce(options, listeners);  // who reads this may send SIGTERM
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  co_await server.serve(descriptors);
  signals.set_action(SIGHUP, nullptr);
  watching.cancel();
  co_await watching.join();
  signals.detach();
  serving.store(nullptr);
  co_await app.end();
  co_return 0;
}

}  // namespace evlua::tools
