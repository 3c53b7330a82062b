// A server on a thread of its own, with a handler that has a route for each thing worth testing, and a client that
// speaks raw bytes and blocks, so that it shares no code with what it tests.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/event.h"
#include "core/scheduler.h"
#include "core/scope.h"
#include "net/http/server.h"
#include "tests/support/descriptors.h"

namespace evlua::test {

/// What the routes report.
struct Observed {
  std::atomic<std::uint64_t> written{0};  ///< payload bytes that /flood has got rid of
  std::atomic<int> write_errors{0};       ///< deferred writes that failed
  std::atomic<int> abandoned{0};          ///< Handler::abandon calls
  std::atomic<int> waiting{0};            ///< handlers that wait in /wait
  std::atomic<std::uint64_t> handled{0};
};

struct ServerSetup {
  std::string backend;
  unsigned workers = 1;
  http::Limits limits{};
  Duration grace = 20 * kSecond;
  std::string address = "127.0.0.1:0";
};

/// Starts in the constructor; the destructor stops it, waits for its end, and checks that nothing is left.
class TestServer {
 public:
  explicit TestServer(const ServerSetup& setup);
  ~TestServer();

  std::uint16_t port() const noexcept { return port_; }
  Observed& observed() noexcept { return observed_; }
  /// Lets every /wait go on.
  void release() { released_.set(); }
  void stop() { server_->stop(); }
  /// Waits for the end after stop.
  void join();

 private:
  class Routes;

  Task<int> main();
  /// A foreign thread, joined before the scheduler goes.
  void start_thread(std::function<void()> body);

  const ServerSetup setup_;
  Observed observed_;
  Event released_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<http::Server> server_;
  std::vector<std::unique_ptr<Routes>> routes_;
  std::unique_ptr<TaskScope> scope_;
  std::atomic<bool> listening_{false};
  std::uint16_t port_ = 0;
  std::thread thread_;
  std::mutex threads_lock_;
  std::vector<std::thread> threads_;
};

struct Response {
  int status = 0;
  std::string head;
  std::map<std::string, std::string> fields;  ///< names in lower case
  std::string body;
  bool complete = false;  ///< as far as its framing says
};

/// One blocking connection. Nothing waits longer than half a minute.
class Client {
 public:
  explicit Client(std::uint16_t port, int receive_buffer = 0);
  explicit Client(const std::string& unix_path);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// False when the peer is gone.
  bool send(std::string_view bytes);
  /// The next response; `head_only` for one to HEAD. `status` is 0 when the connection ended before it.
  Response read(bool head_only = false);
  Response get(const std::string& path);
  /// At most `max` raw bytes; empty at the end of the connection.
  std::string read_some(std::size_t max = 65536);
  /// Everything up to the end of the connection, what was buffered included.
  std::string read_all();
  /// The peer ends the connection without another byte.
  bool ends();
  void shutdown_write();
  /// Closes with RST.
  void abort();
  void close();

 private:
  bool fill();

  int fd_ = -1;
  std::string buffer_;
};

/// Runs `body` for each backend this machine allows, with one worker and with two.
void on_every_setup(const std::function<void(ServerSetup)>& body);

/// Polls until `condition` holds; false after half a minute.
bool eventually(const std::function<bool()>& condition);

}  // namespace evlua::test
