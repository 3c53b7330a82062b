#include "tools/server_app.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>

#include "core/scope.h"
#include "lua/http_pool.h"
#include "lua/vm.h"
#include "net/http/listener_set.h"
#include "net/http/server.h"
#include "tools/certificates.h"
#include "tools/runtime.h"

namespace evlua::tools {

namespace {

using lua::HttpApp;
using lua::Vm;

struct Instance {
  std::unique_ptr<Vm> vm;
  std::unique_ptr<HttpApp> app;
};

std::atomic<http::Server*> serving{nullptr};
std::atomic<int> stops_asked{0};
std::atomic<Certificates*> reloading{nullptr};

/// The first SIGINT or SIGTERM drains, the second leaves at once.
void stop_serving(Vm&, int signal) {
  if (stops_asked.fetch_add(1) > 0) leave(128 + signal);
  http::Server* server = serving.load();
  if (server == nullptr) leave(128 + signal);
  std::fprintf(stderr, "evluaserver: stopping\n");
  server->stop();
}

Task<bool> load_all(Scheduler& scheduler, const ServerOptions& options, std::vector<Instance>& instances) {
  Vm::Options limits;
  limits.memory_max = options.vm_memory;
  HttpApp::Options app_options;
  app_options.show_errors = options.development;
  app_options.cpu_limit = options.cpu_limit;
  app_options.time_limit = options.limits.handler_timeout;
  for (unsigned index = 0; index < scheduler.worker_count() * options.vms; ++index) {
    Instance instance;
    instance.vm = Vm::create(scheduler, limits);
    if (instance.vm == nullptr) co_return false;
    instance.vm->on_exit = [](int code) { leave(code); };
    instance.app = std::make_unique<HttpApp>(*instance.vm, app_options);
    instances.push_back(std::move(instance));
    std::string path = options.app;
    auto loaded = co_await instances.back().app->load(std::move(path), index == 0);
    if (!loaded) {
      std::fprintf(stderr, "evluaserver: %s\n", loaded.error().c_str());
      co_return false;
    }
  }
  co_return true;
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

/// One for each worker: so many instances in turn.
std::vector<std::unique_ptr<lua::HttpPool>> make_pools(const std::vector<Instance>& instances, unsigned each) {
  std::vector<std::unique_ptr<lua::HttpPool>> pools;
  for (std::size_t first = 0; first < instances.size(); first += each) {
    std::vector<HttpApp*> apps;
    for (std::size_t i = first; i < first + each; ++i) apps.push_back(instances[i].app.get());
    pools.push_back(std::make_unique<lua::HttpPool>(std::move(apps)));
  }
  return pools;
}

/// Tasks that handlers left running end with the server.
Task<void> end_instances(std::vector<Instance>& instances) {
  // The first one last: its stop_once comes after every stop.
  for (auto place = instances.rbegin(); place != instances.rend(); ++place) {
    Instance& instance = *place;
    co_await instance.app->stop();
    struct Cancel : Runnable {
      Vm* vm;
      Event done;
    } cancel;
    cancel.vm = instance.vm.get();
    cancel.run = [](Runnable& self) noexcept {
      auto& here = static_cast<Cancel&>(self);
      here.vm->for_each_live([](lua::Fiber& fiber) { fiber.cancel(OpStop::cancelled); });
      here.done.set();
    };
    instance.vm->strand().enqueue(cancel);
    (void)co_await cancel.done.wait();
    (void)co_await instance.vm->idle().wait();
  }
}

}  // namespace

Task<int> run_server(Scheduler& scheduler, const ServerOptions& options, lua::SignalHub& signals) {
  std::vector<Instance> instances;
  const bool loaded = co_await load_all(scheduler, options, instances);
  bool good = loaded;
  const std::unique_ptr<Certificates> certificates = good ? load_certificates(options, good) : nullptr;
  http::ListenerSet listeners(scheduler.worker_count());
  if (!good || !listen_all(options, certificates.get(), listeners)) co_return 1;

  std::vector<std::unique_ptr<lua::HttpPool>> pools = make_pools(instances, options.vms);
  http::StaticFolders folders;
  if (!open_folders(options, folders)) co_return 1;
  std::vector<std::unique_ptr<http::StaticHandler>> statics;
  std::vector<http::Handler*> handlers;
  for (unsigned worker = 0; worker < scheduler.worker_count(); ++worker) {
    http::Handler* app = pools.empty() ? nullptr : pools[worker].get();
    if (!folders.empty()) {
      statics.push_back(std::make_unique<http::StaticHandler>(folders, app, scheduler));
      app = statics.back().get();
    }
    handlers.push_back(app);
  }
  http::Server::Options server_options;
  server_options.limits = options.limits;
  server_options.grace = options.grace;
  http::Server server(scheduler, server_options, handlers);
  serving.store(&server);
  signals.set_stuck_action(stop_serving);
  signals.attach(*instances.front().vm, stop_serving);
  TaskScope watching(scheduler);
  if (certificates != nullptr) {
    reloading.store(certificates.get());
    signals.set_hangup_action([] { reloading.load()->reload_soon(); });
    watching.spawn(certificates->watch(scheduler.pool()));
  }
  announce(options, listeners);  // who reads this may send SIGTERM
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  co_await server.serve(descriptors);
  signals.set_hangup_action(nullptr);
  watching.cancel();
  co_await watching.join();
  signals.detach();
  serving.store(nullptr);
  co_await end_instances(instances);
  co_return 0;
}

}  // namespace evlua::tools
