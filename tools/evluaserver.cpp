// evluaserver: an HTTP server that hands requests to Lua.
#include <signal.h>
#include <unistd.h>

#include <initializer_list>
#include <utility>

#include "core/descriptor_limit.h"
#include "core/log.h"
#include "core/scheduler.h"
#include "core/trace.h"
#include "lua/signals.h"
#include "lua/slice.h"
#include "tools/command_line.h"
#include "tools/handover.h"
#include "tools/runtime.h"
#include "tools/server_app.h"
#include "tools/service.h"
#include "tools/stats_report.h"
#include "tools/stop_limit.h"

namespace evlua::tools {
namespace {

constexpr Duration kLastMoment = 3 * kSecond;  // for what is ended by force to end

int complain(const std::string& what) {
  Log::error("%s", what.c_str());
  return 1;
}

/// What may be a port below 1024. Unix sockets become the account's, but for those that were handed to us: whoever made
/// them has said whose they are.
tl::expected<void, std::string> open_sockets(const Account& account, const ServerCommandLine& line,
                                             http::HandedSockets& sockets) {
  for (const ListenAddress& listen : line.server.listen) {
    if (listen.address.any_port() || sockets.has(listen.address)) continue;
    const Result<void> opened = sockets.open(listen.address, worker_count(line.runtime));
    if (!opened) {
      return tl::unexpected("cannot listen on " + listen.address.to_string() + ": " + opened.error().message());
    }
    if (::geteuid() == 0) give_socket_to(std::string(listen.address.path()), account);
  }
  const std::string& admin = line.server.observe.admin;
  const Result<net::Address> address = net::Address::parse(admin);
  // A Unix socket is the new user's: what watches the service may run as that.
  if (admin.empty() || !address || address->is_unix() || address->any_port() || sockets.has(*address)) return {};
  const Result<void> opened = sockets.open(*address, 1);
  if (opened) return {};
  return tl::unexpected("cannot listen on --admin " + admin + ": " + opened.error().message());
}

/// Opens the sockets, leaves to the account what it will write to, and becomes it. The error is what to print.
tl::expected<void, std::string> become(const Account& account, const ServerCommandLine& line, Prepared& prepared) {
  auto opened = open_sockets(account, line, prepared.sockets);
  if (!opened) return opened;
  if (::geteuid() == 0) {
    auto given = prepared.observer->give_logs_to(account.user, account.group);
    if (!given) return given;
    (void)PidFile::prepare(line.server.pid_file, account);  // what was in the way is told when it is written
  }
  return drop_privileges(account);
}

/// Does what may need privileges, and gives them up. The error is what to print.
tl::expected<void, std::string> prepare(const ServerCommandLine& line, Prepared& prepared) {
  auto certificates = load_certificates(line.server);
  if (!certificates) return tl::unexpected(certificates.error());
  prepared.certificates = std::move(*certificates);
  auto observer = Observer::open(line.server.observe, worker_count(line.runtime));
  if (!observer) return tl::unexpected(observer.error());
  prepared.observer = std::move(*observer);
  const Result<void> pid_file = PidFile::check(line.server.pid_file);
  if (!pid_file) return tl::unexpected("--pid-file " + line.server.pid_file + ": " + pid_file.error().message());
  const auto account = find_account(line.user, line.group);
  if (!account) return tl::unexpected(account.error());
  if (!account->has_value() || line.check) return {};
  return become(**account, line, prepared);
}

int run(ServerCommandLine& line, Prepared& prepared) {
  begin_trace(line.runtime);
  using Actions = std::initializer_list<lua::SignalHub::Action>;
  const Actions none;
  const Actions all = {{SIGHUP, reload_everything}, {SIGUSR1, Observer::reopen_logs}, {SIGUSR2, hand_over_soon}};
  lua::SignalHub signals(line.check ? none : all);
  lua::SliceMonitor slices;
  StopLimit stop_limit(deadline_after(deadline_after(line.server.grace, line.server.stop_limit), kLastMoment));
  Result<void> helped = start_helpers(signals, slices);
  if (helped) helped = stop_limit.start();
  if (!helped) return complain(start_failure(helped.error()));
  const BackendChoice backend = choose_backend(line.runtime, false);
  Scheduler scheduler({worker_count(line.runtime)}, backend.factory);
  const StatsReport report(scheduler, line.runtime.stats);
  const Result<int> code =
      scheduler.run(line.check ? check_server(scheduler, line.server)
                               : run_server(scheduler, line.server, prepared, signals, stop_limit));
  Trace::finish();
  if (!code) return complain(start_failure(code.error()));
  StatsReport::print();
  return *code;
}

}  // namespace
}  // namespace evlua::tools

int main(int argc, char** argv) {
  using namespace evlua::tools;
  keep_standard_numbers();
  evlua::raise_descriptor_limit();
  evlua::lua::SignalHub::hold_back({SIGHUP, SIGUSR1, SIGUSR2});
  ServerCommandLine line;
  line.server.program = ProgramStart::of(argc, argv);
  if (const std::optional<int> code = line.parse(argc, argv)) return *code;
  if (!open_error_log(line.server.observe)) return 2;
  const evlua::Result<void> enough = check_descriptors(worker_count(line.runtime));
  if (!enough) return complain(start_failure(enough.error()));
  auto sockets = inherited_sockets();
  if (!sockets) return complain(sockets.error());
  Prepared prepared;
  prepared.sockets = std::move(*sockets);
  if (!line.complete(prepared.sockets)) return 2;
  const auto ready = prepare(line, prepared);
  if (!ready) return complain(ready.error());
  return run(line, prepared);
}
