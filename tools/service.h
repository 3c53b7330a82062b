// What a service manager wants to know: sd_notify(3) as a protocol, and the file with the process id.
#pragma once

#include <optional>
#include <string>

#include "core/scheduler.h"
#include "core/task.h"
#include "core/time.h"

namespace evlua::tools {

/// Tells systemd, if it has started us: "READY=1". Lines are separated by '\n'.
void notify_manager(const std::string& state) noexcept;

/// Tells it again and again that every worker is alive, until it is cancelled; ends at once if nobody wants to know
/// (WATCHDOG_USEC).
Task<void> feed_watchdog(Scheduler& scheduler);

/// The file with our process id. It is removed at the end, unless another process has written its own.
class PidFile {
 public:
  PidFile() = default;
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile();
  /// Blocks. Does nothing for an empty path.
  Result<void> write(const std::string& path);

 private:
  std::string path_;
};

/// Becomes that user, with the user's groups, or with `group` if that is not empty. Call it before any thread and any
/// ring is made: a ring keeps the credentials that it was made with. The error is what to print.
tl::expected<void, std::string> drop_privileges(const std::string& user, const std::string& group);

}  // namespace evlua::tools
