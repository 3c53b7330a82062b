// A failed task's user value is a small sentinel that owns the error; it notices when it is collected before anybody
// has joined the task.
#include "lua/task_handle.h"

#include <new>

#include "lua/bridge.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

struct JoinWait : Park, ListNode {
  JoinWait(TaskHandle& task, Instant until, bool only_wait) : Park(until), handle(task), only_wait_(only_wait) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<JoinWait&>(self);
      wait.begin_park(waiter);
      wait.handle.waiters.push_back(wait);
    };
    finish = [](Suspension& self, lua_State* L) { return static_cast<JoinWait&>(self).finish_join(L); };
  }
  ~JoinWait() {
    if (linked()) List<JoinWait>::erase(*this);
  }

  TaskHandle& handle;

 private:
  int finish_join(lua_State* L);
  bool only_wait_;
};

namespace {

constexpr const char* kTaskType = "evlua.task";
constexpr const char* kFailureType = "evlua.task_failure";

const char kNames = 0;  // registry key of the table: task -> its name

/// The error of a failed task; its own user value is the error value.
struct Failure : TaskError {
  bool joined = false;
};

TaskHandle& check_task(lua_State* L, int index) { return *static_cast<TaskHandle*>(check_object(L, index, kTaskType)); }

/// Pushes what join returns for the ended task at `index`, or raises its error.
int push_outcome(lua_State* L, TaskHandle& handle, int index) {
  using State = TaskHandle::State;
  if (handle.state == State::cancelled) return push_failure(L, Error{ECANCELED, ErrorDomain::system, OpCode::task});
  if (handle.state == State::timed_out) return push_failure(L, Error{ETIMEDOUT, ErrorDomain::system, OpCode::task});
  if (handle.state == State::limited) return push_failure(L, "CPU time limit exceeded", "ELIMIT");
  lua_getuservalue(L, index);
  if (handle.state == State::failed) {
    auto* failure = static_cast<Failure*>(lua_touserdata(L, -1));
    failure->joined = true;
    Vm::of(L).task_errors().joined(*failure);
    lua_getuservalue(L, -1);
    Vm::of(L).set_trail(L, -1, failure->trace);
    return lua_error(L);
  }
  if (handle.result_count == 0) return 0;
  if (handle.result_count == 1) return 1;
  luaL_checkstack(L, handle.result_count, "too many results");
  const int table = lua_gettop(L);
  for (int i = 1; i <= handle.result_count; ++i) lua_rawgeti(L, table, i);
  return handle.result_count;
}

}  // namespace

int JoinWait::finish_join(lua_State* L) {
  if (linked()) List<JoinWait>::erase(*this);
  if (!woken()) return push_wait_failure(L, error());
  if (only_wait_) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return push_outcome(L, handle, 1);
}

namespace {

int collect_failure(lua_State* L) {
  auto* failure = static_cast<Failure*>(lua_touserdata(L, 1));
  if (!failure->joined) Vm::of(L).task_errors().dropped(*failure);
  failure->~Failure();
  return 0;
}

/// Pushes the sentinel for a fiber that failed; its error value is on top of its root.
void push_failure_of(lua_State* L, Fiber& fiber, bool has_joiner) {
  std::string trace = fiber.failure_text();
  auto* failure = new (lua_newuserdata(L, sizeof(Failure))) Failure;
  failure->trace = std::move(trace);
  if (!has_joiner) fiber.vm().task_errors().add(*failure);
  lua_xmove(fiber.root(), L, 1);
  lua_setuservalue(L, -2);
  luaL_setmetatable(L, kFailureType);
}

/// Pushes the results that lie on the fiber's root: one as it is, several as a table.
void push_results_of(lua_State* L, Fiber& fiber, int count) {
  lua_State* root = fiber.root();
  if (count == 1) {
    lua_xmove(root, L, 1);
    return;
  }
  lua_createtable(L, count, 0);
  for (int i = count; i >= 1; --i) {
    lua_xmove(root, L, 1);
    lua_rawseti(L, -2, i);
  }
}

void task_ended(Fiber::Owner& owner, Fiber& fiber, Fiber::Outcome outcome) {
  auto& handle = static_cast<TaskHandle&>(owner);
  using State = TaskHandle::State;
  lua_State* L = fiber.vm().main_state();
  const int top = lua_gettop(L);
  handle.fiber = nullptr;
  if (outcome == Fiber::Outcome::failed) {
    handle.state = fiber.cancel_raised() ? State::cancelled : State::failed;
  } else {
    // A C function may have caught the error of a limit, and returned it.
    const bool ended = fiber.cancel_noticed() || fiber.struck() != nullptr;
    handle.state = ended ? State::cancelled : State::returned;
  }
  if (handle.state == State::cancelled && fiber.cancelled() == OpStop::deadline) handle.state = State::timed_out;
  if (fiber.doom() != nullptr && handle.state != State::returned) {
    handle.state = fiber.cancelled() == OpStop::deadline ? State::timed_out : State::limited;
  }
  fiber.push_anchored(L);
  if (handle.state == State::failed) {
    push_failure_of(L, fiber, handle.group != nullptr || !handle.waiters.empty());
    lua_setuservalue(L, top + 1);
  } else if (handle.state == State::returned) {
    handle.result_count = lua_gettop(fiber.root());
    if (handle.result_count > 0) {
      push_results_of(L, fiber, handle.result_count);
      lua_setuservalue(L, top + 1);
    }
  }
  while (JoinWait* waiter = handle.waiters.pop_front()) waiter->wake();
  if (handle.group != nullptr) group_member_ended(L, handle);
  lua_settop(L, top);
}

int join_or_wait(lua_State* L, bool only_wait) {
  TaskHandle& handle = check_task(L, 1);
  if (handle.state != TaskHandle::State::running) {
    if (!only_wait) return push_outcome(L, handle, 1);
    lua_pushboolean(L, 1);
    return 1;
  }
  const Fiber* self = Vm::of(L).running();
  if (self != nullptr && handle.fiber->task_number() == self->task_number()) {
    return luaL_error(L, "a task cannot join itself");
  }
  return suspend<JoinWait>(L, handle, check_timeout(L, 2), only_wait);
}

int join(lua_State* L) { return join_or_wait(L, false); }
int wait(lua_State* L) { return join_or_wait(L, true); }

int cancel(lua_State* L) {
  TaskHandle& handle = check_task(L, 1);
  static const char* const reasons[] = {"cancelled", "timeout", nullptr};
  const int reason = luaL_checkoption(L, 2, "cancelled", reasons);
  const bool running = handle.state == TaskHandle::State::running;
  if (running) handle.fiber->cancel(reason == 0 ? OpStop::cancelled : OpStop::deadline);
  lua_pushboolean(L, running);
  return 1;
}

}  // namespace

int limit_task_time(lua_State* L) {
  TaskHandle& handle = check_task(L, 1);
  const Instant until = check_timeout(L, 2);
  if (handle.state == TaskHandle::State::running) handle.fiber->limit_time(until);
  return 0;
}

int limit_task_cpu(lua_State* L) {
  TaskHandle& handle = check_task(L, 1);
  const double seconds = luaL_checknumber(L, 2);
  luaL_argcheck(L, seconds > 0, 2, "seconds above 0 expected");
  if (handle.state == TaskHandle::State::running) handle.fiber->limit_cpu(duration_from_seconds(seconds));
  return 0;
}

void interrupt_task(TaskHandle& handle) noexcept {
  if (handle.state != TaskHandle::State::running) return;
  handle.fiber->use_up_cpu();
  handle.fiber->doom("interrupted");
}

namespace {

int status(lua_State* L) {
  static const char* const names[] = {"running", "done", "failed", "cancelled", "timed out", "limited"};
  const TaskHandle& handle = check_task(L, 1);
  if (handle.state == TaskHandle::State::running && handle.fiber->waiting()) {
    lua_pushliteral(L, "waiting");
  } else {
    lua_pushstring(L, names[static_cast<int>(handle.state)]);
  }
  return 1;
}

/// name([new]) -> the name, or nil; with a name: the task
int name(lua_State* L) {
  (void)check_task(L, 1);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) luaL_checktype(L, 2, LUA_TSTRING);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kNames);
  if (lua_isnil(L, 2)) {
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    return 1;
  }
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_rawset(L, -3);
  lua_settop(L, 1);
  return 1;
}

int to_string(lua_State* L) {
  status(L);
  lua_pushfstring(L, "task (%s): %p", lua_tostring(L, -1), lua_topointer(L, 1));
  return 1;
}

}  // namespace

TaskHandle& push_spawned(lua_State* L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const int arguments = lua_gettop(L) - 1;
  Vm& vm = Vm::of(L);
  if (vm.closing()) luaL_error(L, "a finalizer that runs when the program ends cannot begin a task");
  auto* handle = new (lua_newuserdata(L, sizeof(TaskHandle))) TaskHandle;
  luaL_setmetatable(L, kTaskType);
  luaL_checkstack(L, 4, "too many arguments");
  // From here on the limit must not raise: the fiber would be left over. It has had its say with the userdata.
  vm.keep_limit(false);
  Fiber* fiber = vm.take_fiber();
  const bool has_room = fiber != nullptr && lua_checkstack(fiber->root(), arguments + 2) != 0;
  if (!has_room) {
    if (fiber != nullptr) fiber->discard();
    vm.keep_limit(true);
    luaL_error(L, fiber == nullptr ? "not enough memory" : "too many arguments");
  }
  lua_State* root = fiber->root();
  handle->fiber = fiber;
  handle->ended = task_ended;
  lua_pushvalue(L, -1);
  fiber->anchor(L);
  fiber->set_spawn_site(L);
  Fiber* parent = vm.running();
  if (parent != nullptr && parent->has_locals()) fiber->take_locals(L, *parent, true);
  lua_insert(L, 1);
  lua_xmove(L, root, arguments + 1);
  fiber->start(arguments, handle);
  vm.keep_limit(true);
  return *handle;
}

void push_task_name(lua_State* L, Fiber& fiber) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kNames);
  fiber.push_anchored(L);
  if (lua_isnil(L, -1) || !lua_istable(L, -2)) {
    lua_pop(L, 1);
    lua_pushnil(L);
  } else {
    lua_rawget(L, -2);
  }
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  const SpawnSite* site = fiber.spawn_site();
  if (site != nullptr) {
    lua_pushfstring(L, "%s from %s:%d", fiber.label(), site->source, site->line);
  } else {
    lua_pushstring(L, fiber.label());
  }
}

int spawn_task(lua_State* L) {
  push_spawned(L);
  return 1;
}

void define_task_type(lua_State* L) {
  const luaL_Reg methods[] = {{"join", join},     {"wait", wait}, {"cancel", cancel},
                              {"status", status}, {"name", name}, {nullptr, nullptr}};
  const luaL_Reg metamethods[] = {{"__tostring", to_string}, {nullptr, nullptr}};
  define_type(L, kTaskType, methods, metamethods);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kNames);
  const luaL_Reg failure[] = {{"__gc", collect_failure}, {nullptr, nullptr}};
  define_type(L, kFailureType, nullptr, failure);
}

}  // namespace evlua::lua
