// A group of tasks that end together: the primitive under evlua.scope, all, race and timeout.
//
// The first member that fails (or, in a race, that ends) makes the group cancel the others. Waiting for a group ends
// when no member is left, always: a deadline or a cancellation of the waiter cancels the members first.
#include <new>

#include "lua/bridge.h"
#include "lua/stack.h"
#include "lua/task_handle.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {
constexpr const char* kGroupType = "evlua.task_group";
struct GroupWait;
}  // namespace

struct TaskGroup {
  List<TaskHandle> members;
  bool race = false;
  bool closed = false;       // no more members
  bool cut_short = false;    // a member ended by a cancellation
  int decisive = LUA_NOREF;  // registry reference to the first that failed, or ended in a race
  GroupWait* waiter = nullptr;

  void cancel_all(OpStop why) noexcept {
    members.for_each([why](TaskHandle& member) { member.fiber->cancel(why); });
  }
};

namespace {

struct GroupWait : OpWait {
  GroupWait(TaskGroup& waited, Instant until) : OpWait(OpCode::sleep, -1, until), group(waited) {
    start = [](Suspension& self, Fiber& waiter) { static_cast<GroupWait&>(self).begin_wait(waiter); };
    cancel = [](Suspension& self) noexcept {
      auto& wait = static_cast<GroupWait&>(self);
      wait.stopped = wait.fiber->cancelled();
      wait.group.cancel_all(wait.stopped);
    };
    finish = [](Suspension& self, lua_State* L) { return static_cast<GroupWait&>(self).finish_wait(L); };
  }

  void begin_wait(Fiber& waiter) noexcept {
    group.waiter = this;
    // A time slice that ended between spawning and waiting lets members end before.
    const bool over = group.members.empty();
    if (over) deadline = kNever;
    if (deadline != kNever) {
      begin(waiter);
    } else {
      bind(waiter);
      if (!over) count_inner();
    }
    run = [](Runnable& self) noexcept {
      auto& wait = static_cast<GroupWait&>(self);
      if (wait.group.members.empty()) {
        wait.group.waiter = nullptr;
        wait.fiber->complete();
      } else {
        wait.deadline = kNever;  // it was the deadline: go on waiting, without one
        wait.count_inner();
        wait.group.cancel_all(OpStop::deadline);
      }
    };
    if (over) home->enqueue(*this);
  }

  /// From here on only the members can end it.
  void count_inner() noexcept {
    inner = true;
    fiber->vm().began_inner_wait();
  }

  void wake() noexcept {
    if (std::exchange(inner, false)) fiber->vm().ended_inner_wait();
    if (in_flight()) {
      Worker::cancel(*this);
    } else if (deadline == kNever) {
      home->enqueue(*this);
    }  // else the timer has fired and `run` is on its way
  }

  int finish_wait(lua_State* L) {
    Fiber& self = *Vm::of(L).running();
    if (const char* ends = self.check_limits()) {  // what the members have used up was ours, too
      luaL_unref(L, LUA_REGISTRYINDEX, std::exchange(group.decisive, LUA_NOREF));
      raise_limit(L, self, ends);
    }
    if (group.decisive != LUA_NOREF) {
      lua_rawgeti(L, LUA_REGISTRYINDEX, group.decisive);
      luaL_unref(L, LUA_REGISTRYINDEX, std::exchange(group.decisive, LUA_NOREF));
      return 1;
    }
    if (stopped != OpStop::none && group.cut_short)
      return push_wait_failure(L, Error{ECANCELED, ErrorDomain::system, OpCode::task});
    lua_pushboolean(L, 0);
    return 1;
  }

  TaskGroup& group;
  OpStop stopped = OpStop::none;
  bool inner = false;
};

TaskGroup& check_group(lua_State* L) { return *static_cast<TaskGroup*>(check_object(L, 1, kGroupType)); }

/// group:spawn(f, ...)
int spawn(lua_State* L) {
  TaskGroup& group = check_group(L);
  if (group.closed) return luaL_error(L, "the scope has ended");
  lua_remove(L, 1);  // the group is kept alive by whoever waits for it
  TaskHandle& handle = push_spawned(L);
  handle.group = &group;
  if (const Fiber* spawner = Vm::of(L).running()) handle.fiber->share_limits(*spawner);
  group.members.push_back(handle);
  if (group.decisive != LUA_NOREF) handle.fiber->cancel(OpStop::cancelled);
  return 1;
}

/// group:wait([seconds]) -> the decisive task, or false; or nil, message, code when the waiter was cancelled
int wait(lua_State* L) {
  TaskGroup& group = check_group(L);
  if (group.waiter != nullptr) return luaL_error(L, "somebody waits for this group already");
  Fiber& fiber = fiber_to_wait(L);
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) {
    group.cancel_all(fiber.cancelled());
    // The members must still end before we go on: wait for them under a shield, then report.
    fiber.shield(1);
    fiber.emplace<GroupWait>(group, kNever);
    return lua_yieldk(L, 0, 0, [](lua_State* state, int, lua_KContext) {
      Fiber& self = *Vm::of(state).running();
      self.shield(-1);
      self.finish_wait(state);
      return refuse_wait(state, self);
    });
  }
  fiber.emplace<GroupWait>(group, check_timeout(L, 2));
  return lua_yieldk(L, 0, 0, &continue_wait);
}

/// group:close(): no more members.
int close(lua_State* L) {
  check_group(L).closed = true;
  return 0;
}

/// group:cancel()
int cancel(lua_State* L) {
  check_group(L).cancel_all(OpStop::cancelled);
  return 0;
}

int size(lua_State* L) {
  lua_Integer count = 0;
  check_group(L).members.for_each([&](TaskHandle&) { ++count; });
  lua_pushinteger(L, count);
  return 1;
}

}  // namespace

void group_member_ended(lua_State* L, TaskHandle& handle) {
  TaskGroup& group = *std::exchange(handle.group, nullptr);
  List<TaskHandle>::erase(handle);
  using State = TaskHandle::State;
  if (handle.state == State::cancelled || handle.state == State::timed_out) group.cut_short = true;
  const bool decides = handle.state == State::failed || (group.race && handle.state == State::returned);
  if (decides && group.decisive == LUA_NOREF) {
    lua_pushvalue(L, -1);
    group.decisive = luaL_ref(L, LUA_REGISTRYINDEX);
    group.cancel_all(OpStop::cancelled);
  }
  if (handle.state == State::limited) group.cancel_all(OpStop::cancelled);  // the limit is that of the others, too
  if (group.members.empty() && group.waiter != nullptr) group.waiter->wake();
}

int make_group(lua_State* L) {
  static const char* const kinds[] = {"all", "race", nullptr};
  const int kind = luaL_checkoption(L, 1, "all", kinds);
  auto* group = new (lua_newuserdata(L, sizeof(TaskGroup))) TaskGroup;
  luaL_setmetatable(L, kGroupType);
  group->race = kind == 1;
  return 1;
}

void define_group_type(lua_State* L) {
  const luaL_Reg methods[] = {{"spawn", spawn},   {"wait", wait}, {"close", close},
                              {"cancel", cancel}, {"size", size}, {nullptr, nullptr}};
  define_type(L, kGroupType, methods, nullptr);
}

}  // namespace evlua::lua
