// Errors of tasks that nobody has joined, so that none goes unnoticed.
//
// An error is told on standard error when nobody has joined its task within a second, when no task is left that could,
// or when its handle is collected. Joining later still raises it; only an error that nobody ever joined is the
// program's failure.
#pragma once

#include <string>

#include "core/intrusive.h"
#include "core/op.h"

namespace evlua::lua {

class Vm;

struct TaskError : ListNode {
  std::string trace;  // with the message, and where it came from
  Instant due = 0;
  bool told = false;
};

/// All on the VM's strand.
class TaskErrors final : private Op {
 public:
  explicit TaskErrors(Vm& vm);

  /// REQUIRES: joined or dropped is called before `error` is destroyed.
  void add(TaskError& error);
  void joined(TaskError& error) noexcept;
  /// Nobody can join the task any more.
  void dropped(TaskError& error);
  void tell_all();
  /// Ends the watch. False: it is still ending; Vm::look_whether_idle is called then. REQUIRES: all is told.
  bool stop() noexcept;
  /// Whether there was an error that nobody joined.
  bool any_dropped() const noexcept { return any_dropped_; }

 private:
  void arm() noexcept;
  void fired();

  Vm& vm_;
  List<TaskError> untold_;  // earliest first
  bool armed_ = false;
  bool any_dropped_ = false;
};

}  // namespace evlua::lua
