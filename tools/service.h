// What a service manager wants to know: sd_notify(3) as a protocol, and the file with the process id.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <tl/expected.hpp>

#include "core/scheduler.h"
#include "core/task.h"
#include "core/time.h"

namespace evlua::tools {

/// Tells systemd, if it has started us: "READY=1". Lines are separated by '\n'.
void notify_manager(const std::string& state) noexcept;

/// Tells it again and again that every worker is alive, until it is cancelled; ends at once if nobody wants to know
/// (WATCHDOG_USEC).
Task<void> feed_watchdog(Scheduler& scheduler);

/// A user to become.
struct Account {
  std::string name;
  uid_t user = 0;
  gid_t group = 0;
};

/// Of that user, with `group`, or if that is empty with the user's group; who is that user already keeps its own then.
/// Nobody if both are empty. The error is what to print.
tl::expected<std::optional<Account>, std::string> find_account(const std::string& user, const std::string& group);

/// The file with our process id. It is removed at the end, unless another process has written its own; what may not be
/// removed is emptied.
class PidFile {
 public:
  PidFile() = default;
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile();
  /// Fails where there can be no such file. Blocks. Does nothing for an empty path.
  static Result<void> check(const std::string& path);
  /// Makes the file, for an account that may not make one in its folder. Blocks. Does nothing for an empty path.
  static Result<void> prepare(const std::string& path, const Account& account);
  /// Blocks. Does nothing for an empty path.
  Result<void> write(const std::string& path);

 private:
  std::string path_;
};

/// Makes the file of a Unix socket that user's, if it has no other name: who may write to it may connect.
void give_socket_to(const std::string& path, const Account& account) noexcept;

/// Becomes that user, with the groups that the user has. Call it before any thread and any ring is made: a ring keeps
/// the credentials that it was made with. The error is what to print.
tl::expected<void, std::string> drop_privileges(const Account& account);

}  // namespace evlua::tools
