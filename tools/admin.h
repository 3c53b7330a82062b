// The admin listener: metrics, health, and a dashboard, on an address of their own.
//
// It has a thread and a scheduler of its own, so that it answers while Lua, or everything, is stuck. Nothing of the app
// runs here.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <tl/expected.hpp>
#include <vector>

#include "core/scheduler.h"
#include "net/address.h"
#include "net/http/server.h"
#include "tools/figures.h"

namespace evlua::tools {

class AdminServer {
 public:
  using Started = tl::expected<std::unique_ptr<AdminServer>, std::string>;

  /// Listens, on the sockets that were `handed` to us if there are any, and returns when it does; `figures` is called
  /// on its thread from then on. `names` are those under which it may be asked for, besides addresses and localhost.
  /// The error is what to print. It blocks.
  static Started start(const net::Address& address, const std::vector<int>& handed,
                       const std::vector<std::string>& names, std::function<Figures()> figures);
  /// Ends it. It blocks.
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  /// As bound.
  const net::Address& address() const noexcept { return address_; }
  /// The file of a Unix socket stays: somebody else listens on it.
  void leave_files() noexcept { leaves_files_.store(true); }
  /// For who takes over from us.
  const std::vector<http::ListenerSet::Open>& sockets() const noexcept { return sockets_; }

 private:
  class Pages;

  AdminServer();
  void run_thread();
  Task<int> main();

  net::Address address_;
  std::vector<int> handed_;
  std::atomic<bool> leaves_files_{false};
  std::vector<http::ListenerSet::Open> sockets_;
  std::promise<Result<void>> listening_;
  std::unique_ptr<Pages> pages_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<http::Server> server_;
  std::thread thread_;
};

}  // namespace evlua::tools
