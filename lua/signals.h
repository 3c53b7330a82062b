// Process signals, brought to a Vm's strand.
//
// A small thread waits for the signals of interest, which are blocked in every other thread; so no handler ever runs in
// the middle of anything. A signal that Lua has a handler for starts a task; SIGINT and SIGTERM without one go to the
// program's own action.
#pragma once

#include <lua.hpp>

#include <array>
#include <atomic>
#include <initializer_list>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/runnable.h"
#include "lua/vm.h"

namespace evlua::lua {

class SignalHub {
 public:
  /// What the program does for a signal; see set_action.
  struct Action {
    int signal;
    void (*run)();
  };

  /// Until the hub is made these signals wait for it, for the calling thread and those that it starts.
  static void hold_back(std::initializer_list<int> signals) noexcept;

  /// Blocks the signals in the calling thread. Make it before any other thread, once. The actions hold for signals that
  /// came before, too.
  explicit SignalHub(std::initializer_list<Action> actions = {});
  ~SignalHub();
  SignalHub(const SignalHub&) = delete;
  SignalHub& operator=(const SignalHub&) = delete;

  /// Starts the receiver. Once.
  Result<void> start();

  static SignalHub* instance() noexcept;

  /// Delivers to `vm` from now on. `fallback` is called on the strand for SIGINT and SIGTERM without a Lua handler.
  void attach(Vm& vm, void (*fallback)(Vm&, int signal));
  /// In place of `fallback`, on the receiver's thread, when the strand does not react within half a second. The signal
  /// is over then for the strand.
  void set_substitute(void (*substitute)(Vm&, int signal)) { substitute_ = substitute; }
  /// Likewise, but the strand still gets the signal when it reacts: `heard` is called there first, and `stuck` not any
  /// more. The last resort is when it does not within another half.
  struct StuckActions {
    void (*stuck)(Vm&, int signal);
    void (*last_resort)(Vm&, int signal);
    void (*heard)(Vm&, int signal);
  };
  void set_stuck_actions(const StuckActions& actions) { stuck_ = actions; }
  void detach();
  /// What the program does for one of the signals that Lua may handle but SIGINT and SIGTERM, on the receiver's thread.
  /// The signal then ends nothing; a Lua handler runs besides. Null: nothing.
  void set_action(int signal, void (*action)()) noexcept;

 private:
  struct Delivery;

  void receive() noexcept;
  void deliver(int signal) noexcept;
  bool take(const Delivery& delivery);
  void (*action_for(int signal) const noexcept)();

  std::mutex lock_;
  Vm* vm_ = nullptr;
  void (*fallback_)(Vm&, int) = nullptr;
  std::array<std::atomic<void (*)()>, 8> actions_{};  // as kSignals
  void (*substitute_)(Vm&, int) = nullptr;
  StuckActions stuck_{};
  std::thread thread_;
};

/// Some signal has a handler in Lua. [strand]
bool has_signal_handlers(Vm& vm);

/// As on_signal(name, nil). [strand]
void forget_signal_handler(Vm& vm, int signal);

/// on_signal(name, function or nil)
int on_signal(lua_State* L);

}  // namespace evlua::lua
