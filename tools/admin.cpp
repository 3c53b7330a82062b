#include "tools/admin.h"

#include <pthread.h>

#include <utility>

#include "backends/select.h"
#include "core/check.h"
#include "net/http/listener_set.h"
#include "tools/pages.h"

namespace evlua::tools {

namespace {

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

}  // namespace

class AdminServer::Pages final : public http::Handler {
 public:
  explicit Pages(std::function<Figures()> figures) : figures_(std::move(figures)) {}

  bool handle(http::Exchange& exchange) noexcept override {
    const std::string_view path = exchange.path();
    constexpr std::string_view kText = "text/plain; charset=utf-8";
    if (exchange.method() != "GET" && !exchange.is_head()) {
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
  const std::function<Figures()> figures_;
};

AdminServer::AdminServer() = default;

AdminServer::Started AdminServer::start(const net::Address& address, const std::vector<int>& handed,
                                        std::function<Figures()> figures) {
  // The backend without rings: a kernel that has trouble with those must not keep us from being asked about it.
  auto backend = select_backend("libev");
  if (!backend) return tl::unexpected("--admin: " + backend.error());
  std::unique_ptr<AdminServer> made(new AdminServer);
  made->address_ = address;
  made->handed_ = handed;
  made->pages_ = std::make_unique<Pages>(std::move(figures));
  made->scheduler_ = std::make_unique<Scheduler>(Scheduler::Options{1}, backend->factory);
  std::future<Result<void>> listening = made->listening_.get_future();
  made->thread_ = std::thread([&admin = *made] { admin.run_thread(); });
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
  options.limits.connections = 64;
  options.limits.keep_alive_timeout = 60 * kSecond;
  const std::vector<http::Handler*> handlers = {pages_.get()};
  server_ = std::make_unique<http::Server>(*scheduler_, options, handlers);
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  listening_.set_value({});
  co_await server_->serve(descriptors);
  if (leaves_files_.load()) listeners.leave_files();
  co_return 0;
}

}  // namespace evlua::tools
