#include "lua/signals.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <iterator>
#include <memory>
#include <tuple>
#include <utility>

#include "core/start_thread.h"
#include "lua/bridge.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

struct NamedSignal {
  const char* name;
  int number;
};
constexpr NamedSignal kSignals[] = {{"SIGINT", SIGINT},   {"SIGTERM", SIGTERM}, {"SIGHUP", SIGHUP},
                                    {"SIGUSR1", SIGUSR1}, {"SIGUSR2", SIGUSR2}, {"SIGWINCH", SIGWINCH},
                                    {"SIGCONT", SIGCONT}, {"SIGALRM", SIGALRM}};

const char kHandlers = 0;  // registry key of the table: number -> function

SignalHub* hub = nullptr;

/// Ends the receiver.
int stop_signal() noexcept { return SIGRTMIN + 4; }

sigset_t interesting() noexcept {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, stop_signal());
  // Those whose default is to be ignored or to end the process are blocked from the start; the receiver applies the
  // default itself when nobody handles them.
  for (const NamedSignal& signal : kSignals) sigaddset(&set, signal.number);
  return set;
}

const char* name_of_signal(int number) noexcept {
  for (const NamedSignal& signal : kSignals) {
    if (signal.number == number) return signal.name;
  }
  return "?";
}

/// No handler: what the system would have done.
void apply_default(int signal) noexcept {
  if (signal == SIGWINCH || signal == SIGCONT) return;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace

/// One signal on its way to the strand.
struct SignalHub::Delivery : Runnable {
  SignalHub* owner = nullptr;
  Vm* vm = nullptr;
  void (*fallback)(Vm&, int) = nullptr;
  int signal = 0;
  std::shared_ptr<std::atomic<bool>> seen;  // by the strand, or by who acts in its place
};

void SignalHub::hold_back(std::initializer_list<int> signals) noexcept {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

SignalHub::SignalHub(std::initializer_list<Action> actions) {
  hub = this;
  for (const Action& action : actions) set_action(action.signal, action.run);
  const sigset_t set = interesting();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  // Child processes start with nothing blocked, as they would under any other program.
  ::pthread_atfork(nullptr, nullptr, [] {
    const sigset_t blocked = interesting();
    ::pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
  });
}

Result<void> SignalHub::start() {
  Result<std::thread> thread = start_thread([this] { receive(); });
  if (!thread) return fail(thread.error());
  thread_ = std::move(*thread);
  return {};
}

SignalHub::~SignalHub() {
  detach();
  if (thread_.joinable()) {
    ::pthread_kill(thread_.native_handle(), stop_signal());
    thread_.join();
  }
  hub = nullptr;
}

SignalHub* SignalHub::instance() noexcept { return hub; }

void SignalHub::attach(Vm& vm, void (*fallback)(Vm&, int)) {
  const std::lock_guard guard(lock_);
  vm_ = &vm;
  fallback_ = fallback;
}

void SignalHub::detach() {
  const std::lock_guard guard(lock_);
  vm_ = nullptr;
}

void SignalHub::set_action(int signal, void (*action)()) noexcept {
  static_assert(std::size(kSignals) == std::tuple_size_v<decltype(actions_)>);
  for (std::size_t i = 0; i < actions_.size(); ++i) {
    if (kSignals[i].number == signal) actions_[i].store(action);
  }
}

void (*SignalHub::action_for(int signal) const noexcept)() {
  for (std::size_t i = 0; i < actions_.size(); ++i) {
    if (kSignals[i].number == signal) return actions_[i].load();
  }
  return nullptr;
}

void SignalHub::receive() noexcept {
  ::pthread_setname_np(::pthread_self(), "evlua-signals");
  const sigset_t set = interesting();
  while (true) {
    siginfo_t info;
    const int signal = ::sigwaitinfo(&set, &info);
    if (signal < 0) continue;
    if (signal == stop_signal()) return;
    deliver(signal);
  }
}

/// On the strand. False: it was somebody else's.
bool SignalHub::take(const Delivery& delivery) {
  const std::lock_guard guard(lock_);
  if (delivery.seen->exchange(true)) return false;
  if (stuck_.heard != nullptr) stuck_.heard(*delivery.vm, delivery.signal);
  return true;
}

void SignalHub::deliver(int signal) noexcept {
  const auto action = action_for(signal);
  if (action != nullptr) action();
  auto seen = std::make_shared<std::atomic<bool>>(false);
  {
    const std::lock_guard guard(lock_);
    if (vm_ == nullptr) {
      if (action == nullptr) apply_default(signal);
      return;
    }
    auto* delivery = new Delivery;
    delivery->owner = this;
    delivery->vm = vm_;
    delivery->fallback = fallback_;
    delivery->signal = signal;
    delivery->seen = seen;
    delivery->run = [](Runnable& self) noexcept {
      const std::unique_ptr<Delivery> message(&static_cast<Delivery&>(self));
      if (!message->owner->take(*message)) return;
      Vm& vm = *message->vm;
      lua_State* L = vm.main_state();
      lua_rawgetp(L, LUA_REGISTRYINDEX, &kHandlers);
      if (lua_istable(L, -1)) lua_rawgeti(L, -1, message->signal);
      const bool handled = lua_isfunction(L, -1);
      Fiber* fiber = handled ? vm.take_fiber() : nullptr;
      if (fiber != nullptr) {
        lua_pushvalue(L, -1);
        lua_xmove(L, fiber->root(), 1);
        lua_pushstring(fiber->root(), name_of_signal(message->signal));
        fiber->set_label(name_of_signal(message->signal));
        static Fiber::Owner owner{[](Fiber::Owner&, Fiber& ended, Fiber::Outcome outcome) {
          if (outcome != Fiber::Outcome::failed) return;
          TaskError error;
          error.trace = ended.failure_text();
          ended.vm().task_errors().dropped(error);
        }};
        fiber->start(1, &owner);
      }
      lua_settop(L, 0);
      if (handled) return;
      if (message->signal == SIGINT || message->signal == SIGTERM) {
        message->fallback(vm, message->signal);
      } else if (message->owner->action_for(message->signal) == nullptr) {
        apply_default(message->signal);
      }
    };
    vm_->strand().enqueue(*delivery);
  }
  if (signal != SIGINT && signal != SIGTERM) return;
  // Lua code that never waits keeps the strand busy; the program's own action must not depend on it.
  for (const auto last : {&StuckActions::stuck, &StuckActions::last_resort}) {
    for (int step = 0; step < 50 && !seen->load(); ++step) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const std::lock_guard guard(lock_);
    if (vm_ == nullptr) return;
    if (substitute_ != nullptr) {
      if (!seen->exchange(true)) substitute_(*vm_, signal);
      return;
    }
    if (!seen->load() && stuck_.*last != nullptr) (stuck_.*last)(*vm_, signal);
  }
}

bool has_signal_handlers(Vm& vm) {
  lua_State* L = vm.main_state();
  bool any = false;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kHandlers) == LUA_TTABLE) {
    lua_pushnil(L);
    any = lua_next(L, -2) != 0;
  }
  lua_settop(L, 0);
  return any;
}

void forget_signal_handler(Vm& vm, int signal) {
  lua_State* L = vm.main_state();
  const int top = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kHandlers) == LUA_TTABLE) {
    lua_pushnil(L);
    lua_rawseti(L, -2, signal);
  }
  lua_settop(L, top);
}

int on_signal(lua_State* L) {
  const char* name = luaL_checkstring(L, 1);
  if (!lua_isnil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  int number = 0;
  for (const NamedSignal& signal : kSignals) {
    if (std::strcmp(signal.name, name) == 0 || std::strcmp(signal.name + 3, name) == 0) number = signal.number;
  }
  if (number == 0) return luaL_argerror(L, 1, lua_pushfstring(L, "signal '%s' cannot be handled", name));
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kHandlers) != LUA_TTABLE) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &kHandlers);
  }
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, number);
  return 0;
}

}  // namespace evlua::lua
