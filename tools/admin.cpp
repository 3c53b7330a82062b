#include "tools/admin.h"

#include <pthread.h>
#include <strings.h>

#include <algorithm>
#include <utility>

#include "backends/select.h"
#include "core/check.h"
#include "core/start_thread.h"
#include "net/http/listener_set.h"
#include "tools/pages.h"

namespace evlua::tools {

namespace {

constexpr Duration kIdle = 3 * kSecond;  // the dashboard asks more often

constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void set(http::Exchange& exchange, std::string_view name, std::string_view value) {
  static_cast<void>(exchange.set_header(name, value));
}

void answer(http::Exchange& exchange, int status, std::string_view type, std::string_view body) {
  static_cast<void>(exchange.set_status(status));
  set(exchange, "Content-Type", type);
  set(exchange, "Cache-Control", "no-store");
  set(exchange, "X-Content-Type-Options", "nosniff");
  set(exchange, "Cross-Origin-Resource-Policy", "same-origin");
  static_cast<void>(exchange.send(body));
}

/// Without its port, and without the dot that may end a name.
std::string_view without_port(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  const bool inside = colon != std::string_view::npos && host.find(']', colon) != std::string_view::npos;
  if (colon != std::string_view::npos && !inside) host = host.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) return host.substr(1, host.size() - 2);
  if (host.ends_with('.')) host.remove_suffix(1);
  return host;
}

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

class AdminServer::Pages final : public http::Handler {
 public:
  /// `names` null: it may be asked for under any.
  Pages(const std::vector<std::string>* names, std::function<Figures()> figures) : figures_(std::move(figures)) {
    if (names != nullptr) names_ = *names;
    any_name_ = names == nullptr;
  }

  bool handle(http::Exchange& exchange) noexcept override {
    const std::string_view path = exchange.path();
    constexpr std::string_view kText = "text/plain; charset=utf-8";
    if (!is_ours(exchange.host())) {
      answer(exchange, 421, kText, "Misdirected Request: allow this name with --admin-host\n");
    } else if (exchange.method() != "GET" && !exchange.is_head()) {
      set(exchange, "Allow", "GET, HEAD");
      answer(exchange, 405, kText, "Method Not Allowed\n");
    } else if (path == "/metrics") {
      answer(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(figures_()));
    } else if (path == "/healthz") {
      const std::string state = figures_().state;
      answer(exchange, state == "serving" ? 200 : 503, kText, state + "\n");
    } else if (path == "/status.json") {
      answer(exchange, 200, "application/json", status_json(figures_()));
    } else if (path == "/") {
      set(exchange, "Content-Security-Policy", kPolicy);
      set(exchange, "Referrer-Policy", "no-referrer");
      answer(exchange, 200, "text/html; charset=utf-8", {embedded_pages[0].data, embedded_pages[0].size});
    } else {
      answer(exchange, 404, kText, "Not Found\n");
    }
    return true;
  }

 private:
  /// A page whose name's address has been made ours (DNS rebinding) must not read us: its browser sends that name. Who
  /// sends none is no browser.
  bool is_ours(std::string_view host) const {
    if (any_name_ || host.empty()) return true;
    const std::string_view name = without_port(host);
    if (same_name(name, "localhost") || net::Address::from_host(name, 0)) return true;
    return std::any_of(names_.begin(), names_.end(), [&](const std::string& own) { return same_name(name, own); });
  }

  const std::function<Figures()> figures_;
  std::vector<std::string> names_;
  bool any_name_ = false;
};

AdminServer::AdminServer() = default;

AdminServer::Started AdminServer::start(const net::Address& address, const std::vector<int>& handed,
                                        const std::vector<std::string>& names, std::function<Figures()> figures) {
  // The backend without rings: a kernel that has trouble with those must not keep us from being asked about it.
  auto backend = select_backend("libev");
  if (!backend) return tl::unexpected("--admin: " + backend.error());
  std::unique_ptr<AdminServer> made(new AdminServer);
  made->address_ = address;
  made->handed_ = handed;
  made->pages_ = std::make_unique<Pages>(address.is_unix() ? nullptr : &names, std::move(figures));
  made->scheduler_ = std::make_unique<Scheduler>(Scheduler::Options{1}, backend->factory);
  std::future<Result<void>> listening = made->listening_.get_future();
  Result<std::thread> thread = start_thread([&admin = *made] { admin.run_thread(); });
  if (!thread) return tl::unexpected("--admin: " + thread.error().message());
  made->thread_ = std::move(*thread);
  const Result<void> outcome = listening.get();
  if (outcome) return made;
  return tl::unexpected("cannot listen on --admin " + address.to_string() + ": " + outcome.error().message());
}

AdminServer::~AdminServer() {
  if (!thread_.joinable()) return;
  if (server_ != nullptr) server_->stop();
  thread_.join();
}

void AdminServer::run_thread() {
  ::pthread_setname_np(::pthread_self(), "evlua-admin");
  const Result<int> ran = scheduler_->run(main());
  if (!ran) listening_.set_value(fail(ran.error()));  // then main has not run
}

Task<int> AdminServer::main() {
  http::ListenerSet listeners(1);
  const Result<void> added = listeners.add(address_, nullptr, handed_);
  if (!added) {
    listening_.set_value(added);
    co_return 1;
  }
  address_ = listeners.addresses()[0];
  sockets_ = listeners.sockets();
  http::Server::Options options;
  options.grace = kSecond;
  // Connections that are kept, or only opened, must not keep out who comes to ask whether all is well.
  options.limits.connections = 512;
  options.limits.header_timeout = kIdle;
  options.limits.keep_alive_timeout = kIdle;
  const std::vector<http::Handler*> handlers = {pages_.get()};
  server_ = std::make_unique<http::Server>(*scheduler_, options, handlers);
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  listening_.set_value({});
  co_await server_->serve(descriptors);
  if (leaves_files_.load()) listeners.leave_files();
  co_return 0;
}

}  // namespace evlua::tools
