#include "tools/server_app.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "core/blocking.h"
#include "core/event.h"
#include "core/log.h"
#include "core/scope.h"
#include "core/worker.h"
#include "net/http/listener_set.h"
#include "net/http/server.h"
#include "tools/app_handler.h"
#include "tools/certificates.h"
#include "tools/reloader.h"
#include "tools/runtime.h"
#include "tools/service.h"

namespace evlua::tools {

namespace {

std::atomic<http::Server*> serving{nullptr};
std::atomic<int> stops_asked{0};
std::atomic<StopLimit*> stop_limit_in_use{nullptr};
Event successor_wanted;
std::atomic<bool> successor_unwanted{false};  // the one that starts

/// What SIGHUP is for, while we serve. What comes before is done then.
class Reloadable {
 public:
  void set(Certificates* certificates, Reloader* app) noexcept {
    const std::lock_guard guard(lock_);
    certificates_ = certificates;
    app_ = app;
    if (app_ != nullptr && std::exchange(wanted_, false)) reload();
  }
  void reload_soon() noexcept {
    const std::lock_guard guard(lock_);
    if (app_ != nullptr) return reload();
    wanted_ = true;
  }

 private:
  void reload() noexcept {
    if (certificates_ != nullptr) certificates_->reload_soon();
    app_->reload_soon();
  }

  std::mutex lock_;
  Certificates* certificates_ = nullptr;
  Reloader* app_ = nullptr;
  bool wanted_ = false;
};
Reloadable reloadable;

/// The first SIGINT or SIGTERM drains, the second leaves at once.
void stop_serving(lua::Vm&, int signal) {
  if (stops_asked.fetch_add(1) > 0) leave(128 + signal);
  http::Server* server = serving.load();
  if (server == nullptr) leave(128 + signal);
  if (StopLimit* limit = stop_limit_in_use.load()) limit->begin();
  successor_unwanted.store(true);
  Log::info("stopping");
  server->stop();
}

Generation::Options generation_options(const ServerOptions& options) {
  Generation::Options made;
  made.app = options.app;
  made.vms = options.vms;
  made.vm.memory_max = options.vm_memory;
  made.vm.compat = options.compat;
  made.app_options.show_errors = options.development;
  made.app_options.cpu_limit = options.cpu_limit;
  made.app_options.time_limit = options.limits.handler_timeout;
  made.admission = options.limits.admission;
  return made;
}

/// `all` is every address of this machine, or of its IPv4 ones, so that nobody can have `one` besides.
bool takes_in(const net::Address& all, const net::Address& one) {
  if (all.is_unix() || one.is_unix() || all.port() != one.port()) return false;
  const std::string name = all.to_string();
  return name.starts_with("[::]:") || (name.starts_with("0.0.0.0:") && one.family() == AF_INET);
}

/// What to do about an address that is in use. Most often the same program runs already.
std::string hint_for(const ServerOptions& options, const net::Address& address) {
  const auto clashes = [&](const net::Address& other) { return takes_in(address, other) || takes_in(other, address); };
  const Result<net::Address> admin = net::Address::parse(options.observe.admin);
  if (admin && clashes(*admin)) return "; --admin " + options.observe.admin + " has that port";
  for (const ListenAddress& other : options.listen) {
    const std::string name = other.address.to_string();
    if (name != address.to_string() && clashes(other.address)) return "; --listen " + name + " has that port";
  }
  return "; stop the program that uses it, or choose another";
}

bool listen_all(const ServerOptions& options, Prepared& prepared, http::ListenerSet& listeners) {
  for (const auto& [address, tls] : options.listen) {
    const std::vector<int> handed = prepared.sockets.take(address);
    const Result<void> added = listeners.add(address, tls ? &prepared.certificates->slot() : nullptr, handed);
    if (added) continue;
    const bool in_use = added.error().is(EADDRINUSE);
    Log::error("cannot listen on %s: %s%s", address.to_string().c_str(), added.error().message().c_str(),
               in_use ? hint_for(options, address).c_str() : "");
    return false;
  }
  return true;
}

bool open_folders(const ServerOptions& options, http::StaticFolders& folders) {
  for (const http::StaticFolder& folder : options.folders) {
    const Result<void> added = folders.add(folder);
    if (added) continue;
    Log::error("--static %s: %s", folder.directory.c_str(), added.error().message().c_str());
    return false;
  }
  return true;
}

void tell(Successor::Outcome outcome) {
  if (outcome == Successor::Outcome::late) {
    Log::error("the new process takes too long (--start-timeout) and is ended; we go on");
  } else if (outcome == Successor::Outcome::failed) {
    Log::error("the new process does not serve; we go on");
  } else {
    const bool again = successor_wanted.is_set();
    Log::info("the new process is ended: %s", again ? "another one is asked for" : "the server stops");
  }
}

/// When it returns true another process serves, and this one may stop. False: it was cancelled.
Task<bool> hand_over(Scheduler& scheduler, const ServerOptions& options, const Observer& observer,
                     http::ListenerSet& listeners) {
  while (true) {
    const Result<void> wanted = co_await successor_wanted.wait();
    if (!wanted) co_return false;
    successor_wanted.reset();
    successor_unwanted.store(false);  // one that is asked for meanwhile is this one
    if (stops_asked.load() > 0) co_return false;
    std::vector<http::ListenerSet::Open> sockets = listeners.sockets();
    for (http::ListenerSet::Open& admin : observer.sockets()) sockets.push_back(std::move(admin));
    Successor successor;
    const Result<void> started = successor.start(options.program, sockets);
    if (!started) {
      Log::error("cannot start %s: %s; we go on", options.program.file.c_str(), started.error().message().c_str());
      continue;
    }
    const Instant deadline = deadline_after(monotonic_now(), options.start_limit);
    auto waiting = blocking(
        scheduler.pool(), [&] { return successor.wait_until_it_serves(deadline, successor_unwanted); },
        PoolJob::Class::slow);
    std::optional<Successor::Outcome> outcome = co_await waiting;
    if (!outcome) outcome = successor.wait_until_it_serves(0, successor_unwanted);  // cancelled before it began
    if (outcome == Successor::Outcome::serves) {
      Log::info("process %d takes over", static_cast<int>(successor.pid()));
      notify_manager("MAINPID=" + std::to_string(successor.pid()));
      co_return true;
    }
    tell(*outcome);
  }
}

Task<void> stop_when_handed_over(Scheduler& scheduler, const ServerOptions& options, Observer& observer,
                                 http::ListenerSet& listeners, http::Server& server) {
  const bool handed_over = co_await hand_over(scheduler, options, observer, listeners);
  if (!handed_over) co_return;
  listeners.leave_files();
  observer.leave_files();
  stop_limit_in_use.load()->begin();
  server.stop();
}

/// One for each worker: files first, then the app. `statics` holds what they need.
std::vector<http::Handler*> handlers_of(std::vector<AppHandler>& apps, const http::StaticFolders& folders,
                                        Scheduler& scheduler,
                                        std::vector<std::unique_ptr<http::StaticHandler>>& statics) {
  std::vector<http::Handler*> handlers;
  for (AppHandler& own : apps) {
    handlers.push_back(&own);
    if (folders.empty()) continue;
    statics.push_back(std::make_unique<http::StaticHandler>(folders, &own, scheduler));
    handlers.back() = statics.back().get();
  }
  return handlers;
}

/// Everybody may know that we serve.
void announce(const ServerOptions& options, const http::ListenerSet& listeners, PidFile& pid_file) {
  const Result<void> written = pid_file.write(options.pid_file);
  if (!written) {
    Log::error("cannot write %s: %s", options.pid_file.c_str(), written.error().message().c_str());
  }
  tell_predecessor();
  notify_manager("READY=1\nMAINPID=" + std::to_string(::getpid()));
  for (std::size_t i = 0; i < options.listen.size(); ++i) {
    const net::Address& address = listeners.addresses()[i];
    const char* scheme = options.listen[i].tls ? "https://" : "http://";
    Log::info("listening on %s%s", address.is_unix() ? "" : scheme, address.to_string().c_str());
  }
}

}  // namespace

tl::expected<std::unique_ptr<Certificates>, std::string> load_certificates(const ServerOptions& options) {
  const bool wanted = std::any_of(options.listen.begin(), options.listen.end(), [](const auto& at) { return at.tls; });
  if (!wanted) return nullptr;
  return Certificates::load(options.tls, options.tls_development);
}

void reload_everything() { reloadable.reload_soon(); }

void hand_over_soon() {
  successor_unwanted.store(true);
  successor_wanted.set();
}

Task<int> check_server(Scheduler& scheduler, const ServerOptions& options) {
  Generation::Options only = generation_options(options);
  only.vms = 1;
  only.app_options.start = false;
  http::StaticFolders folders;
  if (!open_folders(options, folders)) co_return 1;
  const Generation::Loaded loaded = co_await Generation::load(scheduler, only, true);
  if (!loaded) {
    Log::error("%s", loaded.error().c_str());
    co_return 1;
  }
  Log::info("%s is good", options.app.empty() ? "the configuration" : options.app.c_str());
  co_await (*loaded)->end(0, options.stop_limit, false);
  co_return 0;
}

Task<int> run_server(Scheduler& scheduler, const ServerOptions& options, Prepared& prepared, lua::SignalHub& signals,
                     StopLimit& stop_limit) {
  const auto observed = co_await prepared.observer->start(scheduler.pool(), prepared.sockets);
  if (!observed) {
    Log::error("%s", observed.error().c_str());
    co_return 1;
  }
  std::vector<AppHandler> apps(scheduler.worker_count());
  const Reloader::Options reloading{options.grace, options.stop_limit, options.start_limit, options.watch};
  Generation::Options generation = generation_options(options);
  generation.app_options.slow = prepared.observer->slow();
  Reloader app(scheduler, std::move(generation), reloading, apps, signals);
  const auto loaded = co_await app.start(stop_serving);
  if (!loaded) Log::error("%s", loaded.error().c_str());
  PidFile pid_file;
  http::ListenerSet listeners(scheduler.worker_count());
  http::StaticFolders folders;
  if (!loaded || !listen_all(options, prepared, listeners) || !open_folders(options, folders)) co_return 1;

  std::vector<std::unique_ptr<http::StaticHandler>> statics;
  const std::vector<http::Handler*> handlers = handlers_of(apps, folders, scheduler, statics);
  http::Server::Options server_options;
  server_options.limits = options.limits;
  server_options.grace = options.grace;
  prepared.observer->fill(server_options);
  http::Server server(scheduler, server_options, handlers);
  stop_limit_in_use.store(&stop_limit);
  prepared.observer->watch(&scheduler, &server);
  serving.store(&server);
  reloadable.set(prepared.certificates.get(), &app);
  signals.set_substitute(stop_serving);
  signals.attach(app.first_vm(), stop_serving);
  TaskScope logging(scheduler);
  logging.spawn(prepared.observer->write_logs(scheduler.pool()));
  TaskScope watching(scheduler);
  if (prepared.certificates != nullptr) watching.spawn(prepared.certificates->watch(scheduler.pool()));
  watching.spawn(app.run());
  watching.spawn(feed_watchdog(scheduler));
  watching.spawn(stop_when_handed_over(scheduler, options, *prepared.observer, listeners, server));
  announce(options, listeners, pid_file);  // who reads this may send SIGTERM
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  Log::set_patient(false);  // from here on clients can make us say things
  co_await server.serve(descriptors);
  Log::set_patient(true);
  notify_manager("STOPPING=1");
  reloadable.set(nullptr, nullptr);
  const Instant all_ended_by = deadline_after(Worker::current().backend().now(), options.stop_limit);
  stop_limit.waits_for("what watches files");
  successor_unwanted.store(true);
  watching.cancel();
  co_await watching.join();
  stop_limit.waits_for("the access log");
  logging.cancel();
  co_await logging.join();
  signals.detach();
  serving.store(nullptr);
  stop_limit.waits_for("the app's stop, or its tasks");
  const bool in_time = co_await app.end(all_ended_by);
  stop_limit.waits_for("the admin listener");
  prepared.observer->watch(nullptr, nullptr);
  co_await prepared.observer->end(scheduler.pool());
  stop_limit_in_use.store(nullptr);
  stop_limit.waits_for("files, or other operations");
  co_return in_time ? 0 : 1;
}

}  // namespace evlua::tools
