// Errors of tasks that nobody has joined, so that none goes unnoticed.
//
// An error is told on standard error when nobody has joined its task within a second, when no task is left that could,
// or when its handle is collected. Joining later still raises it; only an error that nobody ever joined is the
// program's failure.
#pragma once

#include <string>
#include <vector>

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
  /// What would be told from now on is kept for the next call, for who watches the tasks; returns what has been kept
  /// since the last one, with all that nobody has joined so far.
  std::vector<std::string> take();
  /// Ends the watch. False: it is still ending; Vm::look_whether_idle is called then. REQUIRES: all is told.
  bool stop() noexcept;
  /// Whether there was an error that nobody joined.
  bool any_dropped() const noexcept { return any_dropped_; }

 private:
  static constexpr std::size_t kKeptMax = 100;

  void tell(TaskError& error);
  void arm() noexcept;
  void fired();

  Vm& vm_;
  List<TaskError> untold_;  // earliest first
  bool armed_ = false;
  bool any_dropped_ = false;
  bool keeps_ = false;
  std::vector<std::string> kept_;
};

}  // namespace evlua::lua
