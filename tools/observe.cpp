#include "tools/observe.h"

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <utility>

#include "core/log.h"

namespace evlua::tools {

namespace {

std::atomic<http::AccessLog*> access_log_in_use{nullptr};

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
}

http::RequestIds request_ids_of(const ObserveOptions& options) {
  if (options.request_ids == "send") return http::RequestIds::send;
  return options.request_ids == "trust" ? http::RequestIds::trust : http::RequestIds::off;
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

Observer::Opened Observer::open(const ObserveOptions& options, unsigned workers) {
  std::unique_ptr<Observer> made(new Observer);
  made->workers_ = workers;
  if (!options.access_log.empty()) {
    http::AccessLog::Options log;
    log.path = options.access_log;
    if (options.access_format == "json") log.format = http::AccessFormat::json;
    auto opened = http::AccessLog::open(log, workers);
    if (!opened) {
      return tl::unexpected("--access-log " + options.access_log + ": " + opened.error().message());
    }
    made->access_log_ = std::move(*opened);
    access_log_in_use.store(made->access_log_.get());
  }
  return made;
}

Observer::~Observer() { access_log_in_use.store(nullptr); }

std::vector<http::RequestLog*> Observer::request_logs() const {
  std::vector<http::RequestLog*> logs;
  if (access_log_ == nullptr) return logs;
  for (unsigned index = 0; index < workers_; ++index) logs.push_back(&access_log_->of_worker(index));
  return logs;
}

Task<void> Observer::run(BlockingPool& pool) {
  if (access_log_ != nullptr) co_await access_log_->run(pool);
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
