// Child processes. A child is known by a pidfd, so that its end is an event like others: no SIGCHLD, and no other
// process of the same number is ever signalled.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/task.h"

namespace evlua::fs {

struct SpawnOptions {
  std::string program;                                                 ///< a path, or a name that is looked for in PATH
  std::vector<std::string> arguments;                                  ///< argv, the program's name included
  std::optional<std::vector<std::string>> environment = std::nullopt;  ///< "NAME=value"; ours, if not given
  std::string directory;                                               ///< to start in; empty: ours
  /// Descriptors that become the child's 0, 1 and 2; -1: ours. It gets no others, unless `inherited` is given.
  std::array<int, 3> stdio{-1, -1, -1};
  /// By the numbers that they have; then it gets whatever else is not close-on-exec, too.
  std::optional<std::vector<int>> inherited = std::nullopt;
  std::vector<int> blocked{};  ///< signals that it finds blocked
  bool new_group = false;      ///< it leads a process group of its own
  bool new_session = false;    ///< it leads a session of its own, which has no terminal, and a group
  std::optional<uid_t> user = std::nullopt;
  std::optional<gid_t> group = std::nullopt;
  /// The supplementary groups of another user or group; just `group`, if empty.
  std::vector<gid_t> groups{};
};

/// Where starting a program failed.
enum class SpawnStep : std::uint8_t { none, prepare, user, directory, program };

struct Child {
  pid_t pid = 0;
  int pidfd = -1;
};

/// Starts the program; an error of execve is an error here. Blocks until the program has been loaded. A name without
/// "/" is looked for in the PATH of the environment it gets. [any thread]
Result<Child> spawn_blocking(const SpawnOptions& options, SpawnStep* failed = nullptr) noexcept;
/// The same, on a thread of the pool.
Task<Result<Child>> spawn(SpawnOptions options);

/// A pipe whose ends are not inherited: [0] is for reading.
Result<std::array<int, 2>> make_pipe() noexcept;

}  // namespace evlua::fs
