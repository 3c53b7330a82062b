// The text exposition format of Prometheus, version 0.0.4.
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "core/decimal.h"
#include "tools/figures.h"

namespace evlua::tools {

namespace {

class Text {
 public:
  /// What the samples that follow belong to.
  void metric(const char* name, const char* type, const char* help) {
    name_ = name;
    text_ += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
  }

  void sample(double value, const std::string& labels = {}, const char* suffix = "") {
    text_ += name_ + suffix;
    if (!labels.empty()) text_ += "{" + labels + "}";
    text_ += " " + number(value) + "\n";
  }
  void sample(std::uint64_t value, const std::string& labels = {}) { sample(static_cast<double>(value), labels); }

  /// The metric alone, with one sample.
  template <class Value>
  void single(const char* name, const char* type, const char* help, Value value) {
    metric(name, type, help);
    sample(value);
  }

  /// `counts` has one more than `bounds`; each is of its bucket alone.
  template <class Counts, class Bounds>
  void histogram(const Counts& counts, const Bounds& bounds, double sum, const std::string& labels) {
    const std::string more = labels.empty() ? "" : labels + ",";
    double total = 0;
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      total += static_cast<double>(counts[i]);
      sample(total, more + "le=\"" + number(bounds[i]) + "\"", "_bucket");
    }
    total += static_cast<double>(counts[bounds.size()]);
    sample(total, more + "le=\"+Inf\"", "_bucket");
    sample(sum, labels, "_sum");
    sample(total, labels, "_count");
  }

  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
    return value == std::floor(value) && std::fabs(value) < 1e15 ? fixed_decimal(value, 0)
                                                                 : significant_decimal(value, 12);
  }

  /// A label whose value may be anything.
  static std::string label(const char* name, std::string_view value) {
    std::string text = std::string(name) + "=\"";
    for (const char byte : value) {
      if (byte == '\n') {
        text += "\\n";
      } else if (byte == '"' || byte == '\\') {
        text += {'\\', byte};
      } else {
        const auto code = static_cast<unsigned char>(byte);
        if (code < 0x20 || code >= 0x7f) {  // it has to be UTF-8, and may not be
          std::array<char, 8> escape{};
          std::snprintf(escape.data(), escape.size(), "\\\\x%02x", code);
          text += escape.data();
        } else {
          text += byte;
        }
      }
    }
    return text + "\"";
  }

  std::string take() { return std::move(text_); }

 private:
  std::string name_;
  std::string text_;
};

double seconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; }

void add_requests(Text& text, const Figures& figures, const WorkerFigures& all) {
  text.metric("evlua_requests_total", "counter", "Requests that were answered, by the class of the status.");
  for (std::size_t i = 0; i < all.statuses.size(); ++i) {
    text.sample(all.statuses[i], "status=\"" + std::to_string(i + 1) + "xx\"");
  }
  std::array<double, http::kDurationBounds.size()> bounds{};
  for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = static_cast<double>(http::kDurationBounds[i]) / 1e9;
  text.metric("evlua_request_duration_seconds", "histogram", "From the end of a request's head to that of its answer.");
  text.histogram(all.durations, bounds, seconds(all.duration_sum), "");
  text.single("evlua_requests_refused_total", "counter", "Requests that could not be read.", all.refused);
  text.single("evlua_responses_aborted_total", "counter", "Responses that did not go out whole.", all.aborted);
  text.single("evlua_lua_errors_total", "counter", "Handlers that ended with an error.", figures.lua_errors);
  text.single("evlua_requests_shed_total", "counter", "Requests refused with 503 because all had to wait too long.",
              figures.shed);
  text.single("evlua_body_memory_bytes", "gauge", "Bodies of requests that are gathered for req:body().",
              figures.body_memory);
  text.single("evlua_encoders", "gauge", "Responses that are being compressed piece by piece.", figures.encoders);
  text.single("evlua_encoders_refused_total", "counter", "Responses sent as they are because of too many encoders.",
              figures.encoders_refused);
  text.single("evlua_limited_requests_total", "counter", "Requests that a limit ended with 503.", figures.limited);
}

void add_connections(Text& text, const WorkerFigures& all) {
  text.single("evlua_connections_accepted_total", "counter", "Connections accepted.", all.accepted);
  text.single("evlua_connections", "gauge", "Connections open.", all.accepted - std::min(all.closed, all.accepted));
  text.single("evlua_connections_full_total", "counter", "Times that clients had to wait for others to leave.",
              all.full);
  text.single("evlua_connections_refused_total", "counter", "Connections closed because their address had too many.",
              all.turned_away);
  text.single("evlua_accept_failures_total", "counter", "Accepts that failed for want of descriptors or memory.",
              all.accept_failures);
  text.single("evlua_received_bytes_total", "counter", "Bytes received from sockets.", all.bytes_in);
  text.single("evlua_sent_bytes_total", "counter", "Bytes sent to sockets.", all.bytes_out);
  text.single("evlua_tls_handshakes_total", "counter", "TLS handshakes that succeeded.", all.handshakes);
  text.single("evlua_tls_handshake_failures_total", "counter", "TLS handshakes that did not.", all.handshake_failures);
  text.single("evlua_http2_streams_total", "counter", "Streams of HTTP/2.", all.streams);
}

void add_workers(Text& text, const Figures& figures) {
  struct Column {
    const char* name;
    const char* help;
    std::uint64_t WorkerFigures::*value;
  };
  static constexpr std::array<Column, 5> kColumns = {{
      {"evlua_worker_tasks_total", "Pieces of work done.", &WorkerFigures::tasks_run},
      {"evlua_worker_stolen_tasks_total", "Of these, taken from another worker.", &WorkerFigures::tasks_stolen},
      {"evlua_worker_operations_total", "Operations begun.", &WorkerFigures::operations},
      {"evlua_worker_parks_total", "Times it had nothing to do.", &WorkerFigures::parks},
      {"evlua_worker_overruns_total", "Times that it interrupted Lua to let others run.", &WorkerFigures::overruns},
  }};
  const auto label = [](std::size_t worker) { return "worker=\"" + std::to_string(worker) + "\""; };
  for (const Column& column : kColumns) {
    text.metric(column.name, "counter", column.help);
    for (std::size_t i = 0; i < figures.workers.size(); ++i) text.sample(figures.workers[i].*column.value, label(i));
  }
  text.metric("evlua_worker_longest_poll_gap_seconds", "gauge", "The longest time without a look at what is ready.");
  for (std::size_t i = 0; i < figures.workers.size(); ++i) {
    text.sample(seconds(figures.workers[i].longest_poll_gap), label(i));
  }
}

void add_lua(Text& text, const Figures& figures) {
  text.single("evlua_vms", "gauge", "Lua states.", std::uint64_t{figures.vms.size()});
  const auto label = [](const lua::Vm::Figures& vm) { return "vm=\"" + std::to_string(vm.number) + "\""; };
  text.metric("evlua_vm_memory_bytes", "gauge", "What a Lua state holds.");
  for (const lua::Vm::Figures& vm : figures.vms) text.sample(std::uint64_t{vm.memory}, label(vm));
  text.metric("evlua_vm_tasks", "gauge", "Tasks of a Lua state that have not ended, handlers included.");
  for (const lua::Vm::Figures& vm : figures.vms) text.sample(std::uint64_t{vm.tasks}, label(vm));
  text.single("evlua_time_slices_total", "counter", "Times that Lua code was interrupted to let others run.",
              figures.slices);
  text.single("evlua_reloads_total", "counter", "Times that the app was loaded again.", figures.reloads);
  text.single("evlua_reload_failures_total", "counter", "Times that it could not be.", figures.reload_failures);
}

void add_shared(Text& text, const Figures& figures) {
  if (!figures.shared_counters.empty()) {
    text.metric("evlua_shared_value", "gauge", "Counters of evlua.shared.");
    for (const auto& [name, value] : figures.shared_counters) text.sample(value, Text::label("name", name));
  }
  if (figures.shared_histograms.empty()) return;
  text.metric("evlua_shared_observations", "histogram", "Histograms of evlua.shared.");
  for (const Figures::SharedHistogram& shown : figures.shared_histograms) {
    text.histogram(shown.snapshot.counts, shown.bounds, shown.snapshot.sum, Text::label("name", shown.name));
  }
}

}  // namespace

std::string metrics_text(const Figures& figures) {
  Text text;
  const WorkerFigures all = figures.sum();
  text.single("evlua_up", "gauge", "1 while requests are taken; 0 at start and while the server drains.",
              std::uint64_t{figures.state == "serving" ? 1U : 0U});
  add_requests(text, figures, all);
  add_connections(text, all);
  add_lua(text, figures);
  add_workers(text, figures);
  if (figures.logs) {
    text.single("evlua_access_log_lines_total", "counter", "Lines of the access log.", figures.log_lines);
    text.single("evlua_access_log_dropped_total", "counter", "Lines that were dropped.", figures.log_dropped);
  }
  text.single("evlua_error_log_dropped_total", "counter", "Lines of the error log that were dropped.",
              figures.error_log_dropped);
  add_shared(text, figures);
  text.single("process_resident_memory_bytes", "gauge", "Memory in use.", figures.process.resident_bytes);
  text.single("process_open_fds", "gauge", "Descriptors in use.", figures.process.descriptors);
  text.single("process_cpu_seconds_total", "counter", "Processor time used.", figures.process.cpu_seconds);
  text.single("process_start_time_seconds", "gauge", "When it began, in seconds since 1970.", figures.began);
  return text.take();
}

}  // namespace evlua::tools
