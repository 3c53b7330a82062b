// Looks into schedulers, strands and Vms, and tells whether all of it fits together. For the simulator: one thread,
// nobody else in the middle of a step, except where it says so.
//
// Each check returns null, or what is wrong. It never waits and changes nothing.
#pragma once

namespace evlua {

class Scheduler;
class Strand;
class Worker;
namespace lua {
class Vm;
}

struct Inspector {
  /// At any step: queues are whole, a worker's operations are all there, each of them in flight and its own.
  static const char* check(Scheduler& scheduler);
  /// When all workers sleep: what was counted as parked is, no ask to cancel is on its way, no timer was stopped.
  static const char* check_idle(Scheduler& scheduler);

  /// Around a strand that a thread is on: the one it was on before.
  static const Strand* outer(const Strand& strand) noexcept;
  static bool seems_idle(const Strand& strand) noexcept;
  /// When all workers sleep: nobody is on the strand, and nothing waits for it.
  static const char* check_idle(const Strand& strand);

  /// At any step: as many tasks as were counted, each of them in a state that it can go on from.
  static const char* check(lua::Vm& vm);
  /// When all workers sleep: every task waits, and for something that has not happened.
  static const char* check_idle(lua::Vm& vm);

 private:
  static const char* check(Worker& worker);
  static const char* check_idle(Worker& worker);
  template <class T>
  static const char* check_queue(const T& queue);
};

}  // namespace evlua
