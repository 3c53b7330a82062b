// A child process that is ours: starting it with its pipes, its end, its signals. A pidfd stands for it throughout, so
// that nothing here depends on SIGCHLD or on a number that may be somebody else's by now.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/task.h"
#include "core/time.h"
#include "fs/file.h"
#include "fs/spawn.h"

namespace evlua::fs {

/// How a process has ended.
struct ExitStatus {
  int code = 0;    ///< of exit, if no signal ended it
  int signal = 0;  ///< that ended it; 0: none
};

/// Used from one strand or one chain of tasks at a time; any number of them may wait.
class Process {
 public:
  Process() = default;
  explicit Process(const Child& child) noexcept : pid_(child.pid), pidfd_(child.pidfd) {}
  Process(Process&& other) noexcept { *this = std::move(other); }
  Process& operator=(Process&& other) noexcept;
  /// A process that still runs goes on, and is collected when it ends. REQUIRES: nobody waits.
  ~Process();

  pid_t pid() const noexcept { return pid_; }
  /// How it has ended, if it has; looks, and collects it. Does not wait.
  const std::optional<ExitStatus>& look() noexcept;

  /// Waits for its end; then `look` has the status.
  Task<Result<void>> wait(Instant deadline = kNever);
  /// Sends a signal. ESRCH once it has been collected.
  Result<void> signal(int number) noexcept;
  /// Likewise to the process group that it leads, while it has not been collected.
  Result<void> signal_group(int number) noexcept;

  struct Stop {
    Duration grace = 0;  ///< between SIGTERM and SIGKILL; 0: SIGKILL at once
    bool group = false;  ///< reaches the group that it leads
  };
  /// Makes it end, waits for that, and collects it. Being cancelled only shortens the grace.
  Task<void> stop(Stop how);

 private:
  void close_pidfd() noexcept;
  /// Waits for the end, and does not collect.
  Task<Result<void>> ended(Instant deadline);

  pid_t pid_ = 0;
  int pidfd_ = -1;
  unsigned waiting_ = 0;
  bool group_ends_ = false;  // with it
  std::optional<ExitStatus> status_;
};

/// What one of a child's standard descriptors is.
struct Stdio {
  enum class Kind : std::uint8_t {
    inherit,  ///< ours
    null,     ///< /dev/null
    pipe,     ///< to us
    file,     ///< `file`
    output,   ///< for standard error: where standard output goes
  };
  Kind kind = Kind::inherit;
  File file{};
};

struct LaunchOptions {
  SpawnOptions spawn;  ///< its stdio, user and groups are set here
  std::array<Stdio, 3> stdio{};
  std::string user;   ///< a name or number; empty: ours
  std::string group;  ///< likewise; empty: the user's, with its supplementary groups
};

/// Of a failed launch: `error` is an errno, or `unknown_name` is set.
struct Launched {
  Process process;
  std::array<File, 3> pipes;  ///< our ends
  SpawnStep step = SpawnStep::none;
  int error = 0;
  bool unknown_name = false;  ///< of the user or the group
};

Task<Launched> launch(LaunchOptions options);

}  // namespace evlua::fs
