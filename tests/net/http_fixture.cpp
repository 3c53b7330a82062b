#include "tests/net/http_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

#include "backends/select.h"
#include "core/check.h"
#include "net/http/listener_set.h"
#include "net/http/syntax.h"
#include "tests/support/doctest.h"

namespace evlua::test {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{30};

std::size_t query_number(const http::Exchange& exchange) {
  const std::string_view text = exchange.query_string();
  std::size_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

/// "method target version host=... a=b,..." as the handler sees it.
std::string describe(const http::Exchange& exchange) {
  std::string text = std::string(exchange.method()) + ' ' + std::string(exchange.path()) + " ?" +
                     std::string(exchange.query_string()) + " 1." + std::to_string(exchange.version_minor()) +
                     " host=" + std::string(exchange.host());
  exchange.for_each_header([&](const http::HeaderField& field) {
    text += ' ';
    text += field.name;
    text += '=';
    text += field.value;
  });
  return text;
}

/// Reads a body to its end, in pieces of at most as many bytes as the query says, and tells what it saw of it.
struct Report {
  explicit Report(http::Exchange& of) : exchange(of), most(query_number(of)) { CHECK(exchange.trailers() == nullptr); }

  /// False: there is no more to read.
  bool take(const Result<std::string_view>& piece) {
    if (!piece) error = piece.error().name();
    if (!piece || piece->empty()) return false;
    CHECK(piece->size() <= most);
    size += piece->size();
    for (const char byte : *piece) sum = sum * 31 + static_cast<unsigned char>(byte);
    return true;
  }

  /// "bytes sum error a=b ..."
  std::string end() const {
    std::string text = std::to_string(size) + ' ' + std::to_string(sum) + ' ' + error;
    CHECK(exchange.body_read() == (error == "-"));
    CHECK(exchange.body_failed() == (error != "-"));
    const http::Trailers* trailers = exchange.trailers();
    for (std::size_t index = 0; trailers != nullptr && index < trailers->count(); ++index) {
      const http::HeaderField field = trailers->at(index);
      text += ' ';
      text += field.name;
      text += '=';
      text += field.value;
    }
    return text;
  }

  http::Exchange& exchange;
  const std::size_t most;
  std::size_t size = 0;
  std::uint64_t sum = 0;
  std::string error = "-";
};

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const Clock::time_point until = Clock::now() + kPatience;
  while (!condition()) {
    if (Clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

void on_every_setup(const std::function<void(ServerSetup)>& body) {
  for (const char* backend : {"io_uring", "libev"}) {
    if (!select_backend(backend)) {
      MESSAGE("not available here: ", std::string(backend));
      continue;
    }
    for (const unsigned workers : {1U, 2U}) {
      const std::string name = backend;
      CAPTURE(name);
      CAPTURE(workers);
      ServerSetup setup;
      setup.backend = name;
      setup.workers = workers;
      body(setup);
    }
  }
}

// -- the routes -------------------------------------------------------------------------------------------------------

class TestServer::Routes final : public http::Handler {
 public:
  Routes(TestServer& server, Worker& own, Worker& other) : server_(server), own_(own), other_(other) {}

  bool handle(http::Exchange& exchange) noexcept override {
    ++server_.observed_.handled;
    const std::string path(exchange.path());
    if (path == "/") return text(exchange, "hello");
    if (path == "/describe") return text(exchange, describe(exchange));
    if (path == "/large") return text(exchange, std::string(query_number(exchange), 'x'));
    if (path == "/names") return text(exchange, exchange.remote() + " " + exchange.local());
    if (path == "/open") return true;  // the front finishes it
    if (path == "/close") return exchange.close_connection(), text(exchange, "bye");
    if (path == "/status") {
      CHECK(exchange.set_status(static_cast<int>(query_number(exchange))));
      return text(exchange, "body");
    }
    if (path == "/fail") return exchange.fail(static_cast<int>(query_number(exchange))), true;
    if (path == "/inline-body") return inline_body(exchange);
    if (path == "/inline-report") return inline_report(exchange);
    if (path == "/raw-echo") CHECK(exchange.decode_body(false));
    if (path == "/begin-inline") return begin_inline(exchange);
    if (path == "/unknown") return exchange.fail(404), true;
    return defer(exchange, path);
  }

  void abandon(http::Exchange& exchange) noexcept override {
    CHECK(exchange.deferred());
    ++server_.observed_.abandoned;
    server_.released_.set();
  }

 private:
  static bool text(http::Exchange& exchange, std::string_view body) {
    CHECK(exchange.send(body));
    return true;
  }

  static bool inline_body(http::Exchange& exchange) {
    std::string body;
    Result<std::string_view> piece;
    while (exchange.try_read_body(3, piece) && piece && !piece->empty()) body += *piece;
    return text(exchange, body);
  }

  static bool inline_report(http::Exchange& exchange) {
    Report report(exchange);
    Result<std::string_view> piece;
    while (exchange.try_read_body(report.most, piece)) {
      if (!report.take(piece)) return text(exchange, report.end());
    }
    return text(exchange, "would wait");
  }

  static Task<void> report(http::Exchange& exchange, Report report) {
    while (report.error == "-") {
      const Result<std::string_view> piece = co_await exchange.read_body(report.most);
      if (!report.take(piece)) break;
    }
    CHECK(exchange.send(report.end()));
    exchange.complete();
  }

  /// Reads a piece here, if there is one, and the rest elsewhere.
  bool begin_inline(http::Exchange& exchange) {
    Report begun(exchange);
    Result<std::string_view> piece;
    if (exchange.try_read_body(begun.most, piece) && !begun.take(piece)) return text(exchange, begun.end());
    CHECK_FALSE(exchange.decode_body(false));
    exchange.defer();
    server_.scope_->spawn_on(other_.pinned(), report(exchange, begun));
    return false;
  }

  bool defer(http::Exchange& exchange, const std::string& path) {
    exchange.defer();
    Executor& here = own_.pinned();
    Executor& there = other_.pinned();
    TaskScope& scope = *server_.scope_;
    if (path == "/echo")
      scope.spawn_on(here, echo(exchange));
    else if (path == "/echo-there")
      scope.spawn_on(there, echo(exchange));
    else if (path == "/echo-anywhere")
      scope.spawn(echo(exchange));
    else if (path == "/raw-echo")
      scope.spawn_on(there, echo(exchange));
    else if (path == "/report")
      scope.spawn_on(here, report(exchange, Report(exchange)));
    else if (path == "/report-there")
      scope.spawn_on(there, report(exchange, Report(exchange)));
    else if (path == "/stream-echo")
      scope.spawn_on(there, stream_echo(exchange));
    else if (path == "/stream")
      scope.spawn_on(there, stream(exchange, 10, false));
    else if (path == "/stream-length")
      scope.spawn_on(here, stream(exchange, 10, true));
    else if (path == "/promise")
      scope.spawn_on(here, stream(exchange, 9, true));
    else if (path == "/flood")
      scope.spawn_on(there, flood(exchange));
    else if (path == "/wait")
      scope.spawn_on(there, wait(exchange));
    else if (path == "/cut")
      scope.spawn_on(here, cut(exchange));
    else if (path == "/thread")
      server_.start_thread([&exchange] { finish_on_thread(exchange); });
    else
      EVLUA_UNREACHABLE();
    return false;
  }

  static void finish_on_thread(http::Exchange& exchange) {
    CHECK(exchange.send("from a thread"));
    exchange.complete();
  }

  static Task<void> echo(http::Exchange& exchange) {
    const Result<std::string> body = co_await exchange.read_whole_body(exchange.limits().buffered_body_bytes);
    if (body) {
      CHECK(exchange.send(*body));
    } else {
      const Error error = body.error();
      exchange.fail(error.is(Errc::too_large) ? 413 : error.is(ETIMEDOUT) ? 408 : 400);
    }
    exchange.complete();
  }

  /// Sends each piece back before the next is read.
  static Task<void> stream_echo(http::Exchange& exchange) {
    while (true) {
      const Result<std::string_view> piece = co_await exchange.read_body(1000);
      if (!piece || piece->empty()) {
        if (!piece) exchange.fail(400);
        break;
      }
      const std::string copy(*piece);
      const Result<void> written = co_await exchange.write(copy);
      if (!written) break;
    }
    exchange.complete();
  }

  /// Ten times ten bytes were promised; `pieces` of them come.
  Task<void> stream(http::Exchange& exchange, int pieces, bool with_length) {
    if (with_length) CHECK(exchange.set_header("Content-Length", "100"));
    for (int index = 0; index < pieces; ++index) {
      const Result<void> written = co_await exchange.write("0123456789");
      if (!written) ++server_.observed_.write_errors;
      const Result<void> flushed = co_await exchange.flush();
      if (!flushed) ++server_.observed_.write_errors;
    }
    exchange.complete();
  }

  Task<void> flood(http::Exchange& exchange) {
    const std::size_t total = query_number(exchange) * 1024 * 1024;
    const std::string chunk(100'000, 'f');
    for (std::size_t sent = 0; sent < total; sent += chunk.size()) {
      const Result<void> written = co_await exchange.write(chunk);
      if (!written) {
        ++server_.observed_.write_errors;
        break;
      }
      server_.observed_.written += chunk.size();
    }
    exchange.complete();
  }

  Task<void> wait(http::Exchange& exchange) {
    ++server_.observed_.waiting;
    co_await server_.released_.wait();
    if (!exchange.send("released")) ++server_.observed_.write_errors;
    exchange.complete();
  }

  static Task<void> cut(http::Exchange& exchange) {
    const Result<void> written = co_await exchange.write("half");
    CHECK(written);
    const Result<void> flushed = co_await exchange.flush();
    CHECK(flushed);
    exchange.fail(500);
    exchange.complete();
  }

  TestServer& server_;
  Worker& own_;
  Worker& other_;
};

// -- the server -------------------------------------------------------------------------------------------------------

TestServer::TestServer(const ServerSetup& setup) : setup_(setup) {
  const auto choice = select_backend(setup.backend);
  REQUIRE(choice);
  Scheduler::Options options;
  options.workers = setup.workers;
  scheduler_ = std::make_unique<Scheduler>(options, choice->factory);
  std::vector<http::Handler*> handlers;
  for (unsigned index = 0; index < setup.workers; ++index) {
    Worker& other = scheduler_->worker((index + 1) % setup.workers);
    routes_.push_back(std::make_unique<Routes>(*this, scheduler_->worker(index), other));
    handlers.push_back(routes_.back().get());
  }
  http::Server::Options server_options;
  server_options.limits = setup.limits;
  server_options.grace = setup.grace;
  server_ = std::make_unique<http::Server>(*scheduler_, server_options, handlers);
  scope_ = std::make_unique<TaskScope>(*scheduler_);
  thread_ = std::thread([this] {
    const Result<int> ended = scheduler_->run(main());
    CHECK(ended);
  });
  REQUIRE(eventually([this] { return listening_.load(); }));
}

Task<int> TestServer::main() {
  http::ListenerSet listeners(setup_.workers);
  const Result<net::Address> address = net::Address::parse(setup_.address);
  EVLUA_CHECK(address);
  const Result<void> added = listeners.add(*address);
  EVLUA_CHECK(added);
  port_ = listeners.addresses()[0].port();
  listening_ = true;
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  co_await server_->serve(descriptors);
  co_await scope_->join();
  co_return 0;
}

TestServer::~TestServer() {
  stop();
  release();
  join();
  for (unsigned index = 0; index < setup_.workers; ++index) CHECK(server_->station(index).connection_count() == 0);
}

void TestServer::join() {
  if (thread_.joinable()) thread_.join();
  // complete() may still be on its way out of the scheduler.
  const std::lock_guard lock(threads_lock_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TestServer::start_thread(std::function<void()> body) {
  const std::lock_guard lock(threads_lock_);
  threads_.emplace_back(std::move(body));
}

// -- the client -------------------------------------------------------------------------------------------------------

namespace {

void be_patient(int fd) {
  const timeval limit{kPatience.count(), 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/// The kernel's work for an io_uring of this process may interrupt any wait that has a time limit.
bool connected(int fd, const sockaddr* address, socklen_t size) {
  if (::connect(fd, address, size) == 0) return true;
  if (errno != EINTR) return false;
  pollfd writable{fd, POLLOUT, 0};
  while (::poll(&writable, 1, static_cast<int>(kPatience.count()) * 1000) < 0 && errno == EINTR) {
  }
  int error = ETIMEDOUT;
  socklen_t error_size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
  return error == 0;
}

}  // namespace

Client::Client(std::uint16_t port, int receive_buffer) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  be_patient(fd_);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!connected(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address)) close();
}

Client::Client(const std::string& unix_path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  be_patient(fd_);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, unix_path.data(), std::min(unix_path.size(), sizeof address.sun_path - 1));
  if (!connected(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address)) close();
}

Client::~Client() { close(); }

void Client::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void Client::abort() {
  const struct linger none = {1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  close();
}

void Client::shutdown_write() { ::shutdown(fd_, SHUT_WR); }

bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Client::fill() {
  const std::string more = read_some();
  buffer_ += more;
  return !more.empty();
}

std::string Client::read_some(std::size_t max) {
  std::string bytes(max, '\0');
  ssize_t received = -1;
  do {
    received = ::recv(fd_, bytes.data(), bytes.size(), 0);
  } while (received < 0 && errno == EINTR);
  bytes.resize(received > 0 ? static_cast<std::size_t>(received) : 0);
  return bytes;
}

std::string Client::read_all() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

bool Client::ends() {
  const std::string rest = read_all();
  CHECK(rest == "");
  return rest.empty();
}

Response Client::get(const std::string& path) {
  if (!send("GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n")) return {};
  return read();
}

Response Client::read(bool head_only) {
  Response response;
  std::size_t end = std::string::npos;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill()) return response;
  }
  response.head = buffer_.substr(0, end + 4);
  buffer_.erase(0, end + 4);
  CHECK(response.head.substr(0, 9) == "HTTP/1.1 ");
  response.status = static_cast<int>(std::strtol(response.head.c_str() + 9, nullptr, 10));
  std::size_t line = response.head.find("\r\n") + 2;
  while (line < response.head.size() - 2) {
    const std::size_t colon = response.head.find(": ", line);
    const std::size_t line_end = response.head.find("\r\n", line);
    REQUIRE(colon < line_end);
    std::string name = response.head.substr(line, colon - line);
    std::transform(name.begin(), name.end(), name.begin(), http::to_lower);
    response.fields[name] += response.head.substr(colon + 2, line_end - colon - 2);
    line = line_end + 2;
  }
  const bool has_body = !head_only && response.status >= 200 && response.status != 204 && response.status != 304;
  const auto take = [&](std::size_t size) {
    while (buffer_.size() < size && fill()) {
    }
    std::string taken = buffer_.substr(0, size);
    buffer_.erase(0, taken.size());
    return taken;
  };
  if (!has_body) {
    response.complete = true;
  } else if (response.fields.count("content-length") != 0) {
    const std::size_t length = std::stoul(response.fields["content-length"]);
    response.body = take(length);
    response.complete = response.body.size() == length;
  } else if (response.fields.count("transfer-encoding") != 0) {
    while (true) {
      while (buffer_.find("\r\n") == std::string::npos && fill()) {
      }
      const std::size_t line_end = buffer_.find("\r\n");
      if (line_end == std::string::npos) return response;
      const std::size_t size = std::stoul(buffer_.substr(0, line_end), nullptr, 16);
      buffer_.erase(0, line_end + 2);
      const std::string chunk = take(size + 2);
      if (chunk.size() != size + 2) return response;
      CHECK(chunk.substr(size) == "\r\n");
      response.body += chunk.substr(0, size);
      if (size == 0) break;
    }
    response.complete = true;
  } else {
    response.body = read_all();
    response.complete = true;
  }
  return response;
}

}  // namespace evlua::test
