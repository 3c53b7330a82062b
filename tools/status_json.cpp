// The same figures as one JSON object.
#include <string_view>

#include "core/bytes.h"
#include "core/decimal.h"
#include "net/http/access_lines.h"
#include "tools/figures.h"

namespace evlua::tools {

namespace {

/// Puts commas where they belong.
class Json {
 public:
  void open(char bracket, const char* name = nullptr) {
    separate(name);
    text_ += bracket;
    first_ = true;
  }
  void close(char bracket) {
    text_ += bracket;
    first_ = false;
  }
  void number(const char* name, double value) {
    separate(name);
    text_ += significant_decimal(value, 15);
  }
  void number(const char* name, std::uint64_t value) {
    separate(name);
    text_ += std::to_string(value);
  }
  void string(const char* name, std::string_view value) {
    separate(name);
    Bytes escaped;
    http::append_json(escaped, value, SIZE_MAX);
    text_ += '"';
    text_ += escaped.view();
    text_ += '"';
  }
  std::string take() { return std::move(text_); }

 private:
  void separate(const char* name) {
    if (!first_) text_ += ',';
    first_ = false;
    if (name != nullptr) text_ += std::string("\"") + name + "\":";
  }

  std::string text_;
  bool first_ = true;
};

void add_worker(Json& json, const WorkerFigures& worker) {
  json.number("requests", worker.requests());
  json.number("connections", worker.accepted - std::min(worker.closed, worker.accepted));
  json.number("accepted", worker.accepted);
  json.number("tasks", worker.tasks_run);
  json.number("stolen", worker.tasks_stolen);
  json.number("operations", worker.operations);
  json.number("parks", worker.parks);
  json.number("overruns", worker.overruns);
  json.number("longest_poll_gap", static_cast<double>(worker.longest_poll_gap) / 1e9);
}

void add_sum(Json& json, const WorkerFigures& all) {
  json.open('[', "statuses");
  for (const std::uint64_t count : all.statuses) json.number(nullptr, count);
  json.close(']');
  json.open('[', "duration_bounds");
  for (const Duration bound : http::kDurationBounds) json.number(nullptr, static_cast<double>(bound) / 1e9);
  json.close(']');
  json.open('[', "durations");
  for (const std::uint64_t count : all.durations) json.number(nullptr, count);
  json.close(']');
  json.number("duration_sum", static_cast<double>(all.duration_sum) / 1e9);
  json.number("refused", all.refused);
  json.number("connections_refused", all.turned_away);
  json.number("aborted", all.aborted);
  json.number("bytes_in", all.bytes_in);
  json.number("bytes_out", all.bytes_out);
  json.number("handshakes", all.handshakes);
  json.number("handshake_failures", all.handshake_failures);
  json.number("streams", all.streams);
  add_worker(json, all);
}

void add_lists(Json& json, const Figures& figures) {
  json.open('[', "workers");
  for (const WorkerFigures& worker : figures.workers) {
    json.open('{');
    add_worker(json, worker);
    json.close('}');
  }
  json.close(']');
  json.open('[', "vms");
  for (const lua::Vm::Figures& vm : figures.vms) {
    json.open('{');
    json.number("number", vm.number);
    json.number("memory", std::uint64_t{vm.memory});
    json.number("tasks", std::uint64_t{vm.tasks});
    json.close('}');
  }
  json.close(']');
  json.open('[', "slow");
  const Instant now = monotonic_now();
  for (const http::SlowRequests::Entry& entry : figures.slow) {
    json.open('{');
    json.string("id", entry.id);
    json.string("request", entry.request);
    json.number("seconds", static_cast<double>(entry.status == 0 ? now - entry.began : entry.duration) / 1e9);
    json.number("looked_at", static_cast<double>(entry.duration) / 1e9);
    json.number("age", static_cast<double>(now - entry.began) / 1e9);
    json.number("status", static_cast<std::uint64_t>(entry.status));
    json.string("traceback", entry.traceback);
    json.close('}');
  }
  json.close(']');
}

}  // namespace

std::string status_json(const Figures& figures) {
  Json json;
  json.open('{');
  json.string("state", figures.state);
  json.number("uptime", figures.uptime);
  json.number("resident_bytes", figures.process.resident_bytes);
  json.number("descriptors", figures.process.descriptors);
  json.number("cpu_seconds", figures.process.cpu_seconds);
  json.number("lua_errors", figures.lua_errors);
  json.number("limited", figures.limited);
  json.number("shed", figures.shed);
  json.number("body_memory", figures.body_memory);
  json.number("encoders", figures.encoders);
  json.number("encoders_refused", figures.encoders_refused);
  json.number("reloads", figures.reloads);
  json.number("reload_failures", figures.reload_failures);
  json.number("log_dropped", figures.log_dropped);
  json.number("error_log_dropped", figures.error_log_dropped);
  add_sum(json, figures.sum());
  add_lists(json, figures);
  json.close('}');
  return json.take() + "\n";
}

}  // namespace evlua::tools
