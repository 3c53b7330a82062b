// Running a program to its end, with what it reads given and what it writes captured.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "fs/process.h"

namespace evlua::fs {

struct RunOptions {
  LaunchOptions launch;           ///< pipes are fed from `input` and captured
  std::string_view input;         ///< stays valid until the task ends
  std::size_t limit = 16U << 20;  ///< for each of the two outputs
  Instant deadline = kNever;      ///< then it is made to end
  Duration grace = 0;             ///< between SIGTERM and SIGKILL then
  Duration drain = 0;             ///< how long to wait for outputs that others hold when it has ended
};

struct RunResult {
  enum class Outcome : unsigned char { ended, not_started, timed_out, too_much };

  Outcome outcome = Outcome::ended;
  Launched launched;  ///< why it was not started
  ExitStatus status;
  std::string output;
  std::string errors;
  bool incomplete = false;  ///< somebody still held an output in the end
};

/// Cancelling the task kills the program; it is collected in any case before the task ends.
Task<Result<std::unique_ptr<RunResult>>> run(RunOptions options);

}  // namespace evlua::fs
