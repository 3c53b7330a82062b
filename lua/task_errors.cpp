#include "lua/task_errors.h"

#include <utility>

#include "core/log.h"
#include "core/worker.h"
#include "lua/io_file.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

constexpr Duration kTimeToJoin = 1'000'000'000;

/// In turn with what is being typed.
void tell_at_prompt(IoFile& file, const TaskError& error) {
  const std::string text = "evlua: error in a task that nobody joined: " + error.trace + "\n";
  file.append(text);
  file.start_writing();
}

}  // namespace

void TaskErrors::tell(TaskError& error) {
  if (std::exchange(error.told, true)) return;
  if (keeps_) {
    if (kept_.size() < kKeptMax) kept_.push_back(error.trace);
    return;
  }
  if (vm_.io().screen != nullptr && vm_.io().err != nullptr) return tell_at_prompt(*vm_.io().err, error);
  vm_.io().write_briefly();
  Log::error("error in a task that nobody joined: %s", error.trace.c_str());
}

TaskErrors::TaskErrors(Vm& vm) : Op(OpCode::sleep, -1), vm_(vm) {
  home = &vm.strand();
  run = [](Runnable& self) noexcept { static_cast<TaskErrors&>(self).fired(); };
}

void TaskErrors::add(TaskError& error) {
  error.due = Worker::current().backend().now() + kTimeToJoin;
  untold_.push_back(error);
  if (!armed_) arm();
}

void TaskErrors::joined(TaskError& error) noexcept {
  if (error.linked()) List<TaskError>::erase(error);
}

void TaskErrors::dropped(TaskError& error) {
  if (error.linked()) List<TaskError>::erase(error);
  any_dropped_ = true;
  tell(error);
}

void TaskErrors::tell_all() {
  while (TaskError* error = untold_.pop_front()) tell(*error);
}

std::vector<std::string> TaskErrors::take() {
  keeps_ = true;
  tell_all();
  return std::exchange(kept_, {});
}

bool TaskErrors::stop() noexcept {
  if (armed_) Worker::cancel(*this);
  return !armed_;
}

void TaskErrors::arm() noexcept {
  armed_ = true;
  deadline = untold_.front()->due;
  Worker& worker = Worker::current();
  worker.prepare(*this);
  worker.submit(*this);
}

void TaskErrors::fired() {
  armed_ = false;
  const Instant now = Worker::current().backend().now();
  while (!untold_.empty() && untold_.front()->due <= now) tell(*untold_.pop_front());
  if (!untold_.empty()) {
    arm();
  } else {
    vm_.look_whether_idle();
  }
}

}  // namespace evlua::lua
