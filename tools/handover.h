// From one evluaserver to the next without a gap: the old process starts the new one with its listening sockets, and
// stops when that one serves. Connections wait in the sockets' queues meanwhile, whoever of the two takes them.
//
// The sockets are passed as EVLUA_SOCKETS, a line "FD ADDRESS" for each; EVLUA_READY_FD is where the new process says
// that it serves. Sockets from systemd (LISTEN_FDS, sd_listen_fds(3)) come the same way.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "core/time.h"

#include "net/http/handed_sockets.h"
#include "net/http/listener_set.h"

namespace evlua::tools {

/// What the environment tells of; the variables are gone afterwards. The error is what to print. Call it before any
/// thread is started.
tl::expected<http::HandedSockets, std::string> inherited_sockets();

/// To the process that started us, if it waits for that: we serve.
void tell_predecessor() noexcept;

/// How this process was started. The file is what has that name when it is used: a link on the way to it may lead
/// elsewhere by then.
struct ProgramStart {
  std::string file;
  std::vector<std::string> arguments;

  static ProgramStart of(int argc, char** argv);
};

/// The process that takes over.
class Successor {
 public:
  Successor() = default;
  Successor(const Successor&) = delete;
  Successor& operator=(const Successor&) = delete;
  ~Successor();

  Result<void> start(const ProgramStart& program, const std::vector<http::ListenerSet::Open>& sockets);
  enum class Outcome : std::uint8_t { serves, failed, late, unwanted };
  /// Blocks until it serves, has failed, has not done so until `deadline`, or is `unwanted`. It is ended then, unless
  /// it serves.
  Outcome wait_until_it_serves(Instant deadline, const std::atomic<bool>& unwanted) noexcept;
  pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_ = -1;
  int ready_fd_ = -1;
};

}  // namespace evlua::tools
