#include "tools/observe.h"

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <utility>

#include "core/blocking.h"
#include "core/log.h"
#include "lua/http_app.h"
#include "lua/shared_metrics.h"
#include "lua/slice.h"
#include "net/http/body_memory.h"
#include "net/http/encoder_place.h"
#include "tools/admin.h"
#include "tools/option_values.h"
#include "tools/reloader.h"

namespace evlua::tools {

namespace {

std::atomic<http::AccessLog*> access_log_in_use{nullptr};

/// For the admin listener's connections, and what it reads for an answer.
constexpr std::uint32_t kDescriptorsLeft = 64;

double now_in_seconds() noexcept {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

void define_observe(CLI::App& app, ObserveOptions& options) {
  app.add_option("--access-log", options.access_log, "file for a line about each request, or - for standard output");
  app.add_option("--access-log-format", options.access_format, "combined (the default) or json")
      ->check(CLI::IsMember({"combined", "json"}));
  app.add_option("--error-log", options.error_log, "file for what the server has to say; default -: standard error");
  app.add_option("--log-level", options.log_level, "error, warn, info (the default) or debug")
      ->check(CLI::IsMember({"error", "warn", "info", "debug"}));
  app.add_option("--request-id", options.request_ids,
                 "X-Request-Id: off (the default), send, or trust that of the client")
      ->check(CLI::IsMember({"off", "send", "trust"}));
  app.add_option("--admin", options.admin,
                 "ADDRESS:PORT or unix:PATH for /metrics, /healthz and a dashboard; not for the public");
  app.add_option("--admin-host", options.admin_names,
                 "name, repeatable, by which it may be asked for; addresses and localhost always may")
      ->allow_extra_args(false);
  app.add_option("--slow-request", options.slow_seconds, "seconds from which a request is shown there as slow")
      ->check(seconds_from(0.001));
}

bool complete_observe(const ObserveOptions& options, http::Limits& limits) {
  if (options.request_ids == "send") limits.request_ids = http::RequestIds::send;
  if (options.request_ids == "trust") limits.request_ids = http::RequestIds::trust;
  if (options.admin.empty()) return true;
  limits.slow_after = duration_from_seconds(options.slow_seconds);
  limits.descriptors_left = kDescriptorsLeft;
  if (net::Address::parse(options.admin)) return true;
  std::fprintf(stderr, "evluaserver: --admin: '%s' is no address: ADDRESS:PORT, [IPv6]:PORT or unix:PATH expected\n",
               options.admin.c_str());
  return false;
}

bool open_error_log(const ObserveOptions& options) {
  Log::set_program("evluaserver");
  Log::set_level(Log::level_of(options.log_level).value_or(LogLevel::info));
  const Result<void> opened = Log::open(options.error_log);
  if (opened) return true;
  std::fprintf(stderr, "evluaserver: --error-log %s: %s\n", options.error_log.c_str(),
               opened.error().message().c_str());
  return false;
}

/// What one worker's exchanges go through.
class Observer::Lane final : public http::RequestLog {
 public:
  Lane(http::SlowRequests* slow, Duration slow_after, http::RequestLog* next) noexcept
      : slow_(slow), slow_after_(slow_after), next_(next) {}

  void ended(http::Exchange& exchange, const http::ExchangeEnd& end) noexcept override {
    if (slow_ != nullptr && end.duration >= slow_after_) slow_->ended(exchange, end);
    if (next_ != nullptr) next_->ended(exchange, end);
  }

 private:
  http::SlowRequests* const slow_;
  const Duration slow_after_;
  http::RequestLog* const next_;
};

Observer::Observer(const ObserveOptions& options, unsigned workers)
    : options_(options), began_(now_in_seconds()), began_at_(monotonic_now()) {
  lanes_.reserve(workers);
}

Observer::Opened Observer::open(const ObserveOptions& options, unsigned workers) {
  std::unique_ptr<Observer> made(new Observer(options, workers));
  if (!options.access_log.empty()) {
    http::AccessLog::Options log;
    log.path = options.access_log;
    if (options.access_format == "json") log.format = http::AccessFormat::json;
    auto opened = http::AccessLog::open(log, workers);
    if (!opened) return tl::unexpected("--access-log " + options.access_log + ": " + opened.error().message());
    made->access_log_ = std::move(*opened);
    access_log_in_use.store(made->access_log_.get());
  }
  for (unsigned index = 0; index < workers; ++index) {
    http::RequestLog* const next = made->access_log_ != nullptr ? &made->access_log_->of_worker(index) : nullptr;
    made->lanes_.push_back(std::make_unique<Lane>(made->slow(), duration_from_seconds(options.slow_seconds), next));
  }
  return made;
}

tl::expected<void, std::string> Observer::give_logs_to(uid_t user, gid_t group) noexcept {
  const Result<void> errors = Log::give_to(user, group);
  if (!errors) return tl::unexpected("--error-log " + options_.error_log + ": " + errors.error().message());
  if (access_log_ == nullptr) return {};
  const Result<void> accesses = access_log_->give_to(user, group);
  if (!accesses) return tl::unexpected("--access-log " + options_.access_log + ": " + accesses.error().message());
  return {};
}

Observer::~Observer() {
  admin_.reset();  // it asks us for figures
  access_log_in_use.store(nullptr);
}

Task<tl::expected<void, std::string>> Observer::start(BlockingPool& pool, http::HandedSockets& handed) {
  using Outcome = tl::expected<void, std::string>;
  if (!measured()) co_return Outcome();
  const Result<net::Address> address = net::Address::parse(options_.admin);
  const std::vector<int> sockets = handed.take(*address);
  auto starting = blocking(
      pool, [&] { return AdminServer::start(*address, sockets, options_.admin_names, [this] { return figures(); }); },
      PoolJob::Class::slow);
  std::optional<AdminServer::Started> started = co_await starting;
  if (!*started) co_return Outcome(tl::unexpected(std::move(started->error())));
  admin_ = std::move(**started);
  const net::Address& bound = admin_->address();
  Log::info("admin on %s%s", bound.is_unix() ? "" : "http://", bound.to_string().c_str());
  co_return Outcome();
}

std::vector<http::ListenerSet::Open> Observer::sockets() const {
  return admin_ != nullptr ? admin_->sockets() : std::vector<http::ListenerSet::Open>();
}

void Observer::leave_files() noexcept {
  if (admin_ != nullptr) admin_->leave_files();
}

Task<void> Observer::end(BlockingPool& pool) {
  if (admin_ == nullptr) co_return;
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  auto ending = blocking(
      pool,
      [this] {
        admin_.reset();
        return true;
      },
      PoolJob::Class::slow);
  (void)co_await ending;
}

void Observer::fill(http::Server::Options& options) const {
  options.measured = measured();
  if (!measured() && access_log_ == nullptr) return;
  for (const auto& lane : lanes_) options.logs.push_back(lane.get());
}

void Observer::watch(Scheduler* scheduler, const http::Server* server) {
  const std::lock_guard guard(lock_);
  scheduler_ = scheduler;
  server_ = server;
  watched_ = true;
}

Task<void> Observer::write_logs(BlockingPool& pool) {
  if (access_log_ != nullptr) co_await access_log_->run(pool);
}

Figures Observer::figures() {
  Figures all;
  all.began = began_;
  all.uptime = static_cast<double>(monotonic_now() - began_at_) / 1e9;
  all.process = process_figures();
  all.vms = lua::Vm::all_figures();
  all.slow = slow_.list();
  all.lua_errors = lua::HttpApp::counts().errors.value();
  all.limited = lua::HttpApp::counts().limited.value();
  all.shed = lua::HttpApp::counts().shed.value();
  all.body_memory = http::BodyMemory::in_use();
  all.encoders = http::EncoderPlace::in_use();
  all.encoders_refused = http::EncoderPlace::refused();
  all.reloads = Reloader::counts().done.value();
  all.reload_failures = Reloader::counts().failed.value();
  all.error_log_dropped = Log::dropped();
  all.slices = lua::Slice::cut_short();
  if (access_log_ != nullptr) {
    all.logs = true;
    all.log_lines = access_log_->lines();
    all.log_dropped = access_log_->dropped();
  }
  lua::for_each_shared_counter([&](const std::string& name, const Counter& counter) {
    all.shared_counters.emplace_back(name, counter.value());
  });
  lua::for_each_shared_histogram([&](const std::string& name, const Histogram& histogram) {
    all.shared_histograms.push_back({name, histogram.bounds(), histogram.snapshot()});
  });
  const std::lock_guard guard(lock_);
  if (server_ == nullptr) {
    all.state = watched_ ? "ended" : "starting";
    return all;
  }
  all.state = server_->station(0).stopping() ? "draining" : "serving";
  for (unsigned index = 0; index < scheduler_->worker_count(); ++index) {
    all.workers.push_back(WorkerFigures::of(server_->station(index).counters(), scheduler_->worker(index).counters()));
  }
  return all;
}

void Observer::reopen_logs() {
  const Result<void> errors = Log::reopen();
  if (!errors) Log::error("the error log cannot be opened again: %s", errors.error().message().c_str());
  http::AccessLog* log = access_log_in_use.load();
  if (log == nullptr) return;
  const Result<void> accesses = log->reopen();
  if (!accesses) Log::error("the access log cannot be opened again: %s", accesses.error().message().c_str());
}

}  // namespace evlua::tools
