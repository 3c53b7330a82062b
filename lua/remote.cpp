#include "lua/remote.h"

#include <cerrno>
#include <utility>

#include "core/cancel.h"
#include "core/event.h"
#include "lua/fiber.h"
#include "lua/stack.h"
#include "lua/task_list.h"

namespace evlua::lua {

namespace {

constexpr Duration kGrace = 100 * kMillisecond;  // for a cancelled function to end by itself

/// The coroutine goes on on another executor: name it, then await it.
class Hop : private Runnable {
 public:
  explicit Hop(Executor& to) : to_(to) {}
  bool await_ready() const noexcept { return false; }
  template <class Awaiting>
  void await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    awaiting.promise().context.home = &to_;
    run = [](Runnable& self) noexcept { static_cast<Hop&>(self).handle_.resume(); };
    to_.enqueue(*this);
  }
  void await_resume() const noexcept {}

 private:
  Executor& to_;
  std::coroutine_handle<> handle_;
};

/// The call, on the strand of the Vm it happens in.
struct RemoteCall : Runnable, Fiber::Owner, Vm::DeadlockWatch {
  Vm* vm = nullptr;
  std::unique_ptr<Message> call;
  RemoteResult result;
  Event done;
  bool deadlocked = false;

  void begin();
  void end_deadlock();
  void finish(Fiber& fiber, Fiber::Outcome outcome);
};

int pack_results(lua_State* L, int, lua_KContext) {
  pack_message(L, 1);
  return 1;
}

int call_function(lua_State* L, int, lua_KContext) {
  lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, pack_results);
  return pack_results(L, LUA_OK, 0);
}

int unpack_call(lua_State* L) {
  auto& remote = *static_cast<RemoteCall*>(lua_touserdata(L, 1));
  return unpack_message(L, remote.call);
}

/// The function of the fiber: unpacks, calls, packs what came of it.
int perform(lua_State* L) {
  lua_pushcfunction(L, unpack_call);
  lua_insert(L, 1);
  lua_callk(L, 1, LUA_MULTRET, 0, call_function);
  return call_function(L, LUA_OK, 0);
}

/// The error value on top of the stack becomes a packed message, if it can be copied; else its text does.
int pack_error(lua_State* L) {
  lua_pushcfunction(L, [](lua_State* state) {
    pack_message(state, 1);
    return 1;
  });
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return 1;
  luaL_tolstring(L, 1, nullptr);
  lua_replace(L, 1);
  lua_settop(L, 1);
  pack_message(L, 1);
  return 1;
}

void RemoteCall::begin() {
  Fiber* fiber = vm->take_fiber();
  if (fiber == nullptr) {
    result.failed = true;
    result.trace = "not enough memory";
    done.set();
    return;
  }
  ended = [](Fiber::Owner& owner, Fiber& ended_fiber, Fiber::Outcome outcome) {
    static_cast<RemoteCall&>(owner).finish(ended_fiber, outcome);
  };
  found = [](Vm::DeadlockWatch& watch, Vm&) { static_cast<RemoteCall&>(watch).end_deadlock(); };
  vm->watch_deadlocks(this);
  lua_State* L = fiber->root();
  lua_pushcfunction(L, perform);
  lua_pushlightuserdata(L, this);
  fiber->start_now(1, this);
}

/// The call fails, and its tasks are cancelled: nobody but its caller could do so.
void RemoteCall::end_deadlock() {
  if (!std::exchange(deadlocked, true)) {
    result.failed = true;
    result.values = nullptr;
    result.trace = "deadlock: all tasks of the Lua state wait for each other\n" + describe_tasks(*vm);
  }
  vm->for_each_live([](Fiber& fiber) { fiber.cancel(OpStop::cancelled); });
}

void RemoteCall::finish(Fiber& fiber, Fiber::Outcome outcome) {
  if (deadlocked) {
    done.set();
    return;
  }
  lua_State* L = vm->main_state();
  const int top = lua_gettop(L);
  result.failed = outcome == Fiber::Outcome::failed;
  if (result.failed) {
    result.trace = fiber.failure_text();
    lua_pushcfunction(L, pack_error);
    lua_xmove(fiber.root(), L, 1);
    if (pcall_briefly(L, 1, 1) == LUA_OK) result.values = std::move(packed_message(L, -1));
  } else if (lua_gettop(fiber.root()) > 0) {  // nothing when it was cancelled before it began
    lua_xmove(fiber.root(), L, 1);
    result.values = std::move(packed_message(L, -1));
  }
  lua_settop(L, top);
  done.set();
}

/// Asks every task of the Vm to end, on its strand.
struct CancelAll : Runnable {
  explicit CancelAll(Vm& cancelled) : vm(cancelled) {
    run = [](Runnable& self) noexcept {
      auto& ask = static_cast<CancelAll&>(self);
      ask.vm.for_each_live([](Fiber& fiber) { fiber.cancel(OpStop::cancelled); });
      ask.asked.set();
    };
  }
  Vm& vm;
  Event asked;
};

/// Until no task is left. What keeps the strand busy gets some time, then errors.
Task<void> end_tasks(Vm& vm) {
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  CancelAll ask(vm);
  vm.strand().enqueue(ask);
  const Instant limit = deadline_after(Worker::current().backend().now(), kGrace);
  Event::Wait asked = ask.asked.wait(limit);
  Result<void> ended = co_await asked;
  if (ended) {
    Event::Wait idle = vm.idle().wait(limit);
    ended = co_await idle;
  }
  if (ended) co_return;
  vm.condemn("task cancelled");
  Event::Wait asked_at_last = ask.asked.wait();
  (void)co_await asked_at_last;
  Event::Wait idle_at_last = vm.idle().wait();
  (void)co_await idle_at_last;
  vm.condemn(nullptr);
}

}  // namespace

Task<Result<RemoteResult>> call_remotely(std::shared_ptr<Vm> vm, Vm& caller, std::unique_ptr<Message> call) {
  const Vm::Seed seed = vm == nullptr ? caller.seed() : Vm::Seed();
  Hop away(caller.scheduler());
  co_await away;
  if (vm == nullptr) vm = Vm::create(seed);
  Result<RemoteResult> result = fail(ENOMEM, OpCode::task);
  if (vm != nullptr) {
    RemoteCall remote;
    remote.vm = vm.get();
    remote.call = std::move(call);
    remote.run = [](Runnable& self) noexcept { static_cast<RemoteCall&>(self).begin(); };
    vm->strand().enqueue(remote);
    Event::Wait called = remote.done.wait();
    Result<void> waited = co_await called;
    if (waited) {
      Event::Wait idle = vm->idle().wait();  // for the tasks that the function has left behind
      waited = co_await idle;
    }
    if (!waited) co_await end_tasks(*vm);
    vm->watch_deadlocks(nullptr);  // it is idle, and stays so until the next call
    if (waited) {
      result = std::move(remote.result);
    } else {
      result = fail(waited.error());
    }
    vm.reset();
  }
  Hop back(caller.strand());
  co_await back;
  co_return result;
}

}  // namespace evlua::lua
