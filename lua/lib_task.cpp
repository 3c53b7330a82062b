// The primitives behind `evlua`: tasks, sleeping, clocks, leaving. The rest of the module is lua/lib/evlua.lua.
#include <lua.hpp>

#include <cmath>
#include <cstdio>
#include <ctime>
#include <string>

#include "lua/bracket.h"
#include "lua/bridge.h"
#include "lua/bytecode.h"
#include "lua/io_file.h"
#include "lua/modules.h"
#include "lua/require.h"
#include "lua/signals.h"
#include "lua/slice.h"
#include "lua/stack.h"
#include "lua/task_handle.h"
#include "lua/task_list.h"
#include "lua/task_local.h"

namespace evlua::lua {

namespace {

struct SleepWait : OpWait {
  explicit SleepWait(Instant until) : OpWait(OpCode::sleep, -1, until) {
    finish = [](Suspension& self, lua_State* L) {
      const int outcome = static_cast<SleepWait&>(self).outcome();
      if (outcome < 0) return push_wait_failure(L, Error{-outcome, ErrorDomain::system, OpCode::sleep});
      lua_pushboolean(L, 1);
      return 1;
    };
  }
};

int sleep(lua_State* L) {
  const double seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, !std::isnan(seconds), 1, "not a number");
  const Instant until = deadline_after(Worker::current().backend().now(), duration_from_seconds(seconds));
  return suspend<SleepWait>(L, until);
}

/// Goes to the back of the strand's queue.
struct YieldWait : OpWait {
  YieldWait() : OpWait(OpCode::nop, -1, kNever) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<YieldWait&>(self);
      wait.bind(waiter);
      waiter.vm().strand().enqueue(wait);
    };
    cancel = [](Suspension&) noexcept {};
    finish = [](Suspension&, lua_State* L) {
      lua_pushboolean(L, 1);
      return 1;
    };
  }
};

int yield(lua_State* L) { return suspend<YieldWait>(L); }

/// atomic(f, ...): what is called from C cannot wait, and its slice cannot end.
int atomic(lua_State* L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

int now(lua_State* L) {
  lua_pushnumber(L, static_cast<double>(Worker::current().backend().now()) / 1e9);
  return 1;
}

int wall_time(lua_State* L) {
  timespec wall{};
  ::clock_gettime(CLOCK_REALTIME, &wall);
  lua_pushnumber(L, static_cast<double>(wall.tv_sec) + static_cast<double>(wall.tv_nsec) / 1e9);
  return 1;
}

int leave(lua_State* L) {
  int code = 0;
  if (lua_isboolean(L, 1)) {
    code = lua_toboolean(L, 1) != 0 ? 0 : 1;
  } else if (!lua_isnoneornil(L, 1)) {
    code = static_cast<int>(check_range(L, 1, 0, 255));
  }
  Vm& vm = Vm::of(L);
  vm.write_all_out();
  vm.task_errors().tell_all();
  std::fflush(nullptr);
  vm.on_exit(code);
  return 0;
}

void set_count(lua_State* L, const char* name, std::uint64_t count) {
  lua_pushinteger(L, static_cast<lua_Integer>(count));
  lua_setfield(L, -2, name);
}

/// stats() -> what the scheduler and this Vm have counted
int stats(lua_State* L) {
  Vm& vm = Vm::of(L);
  Scheduler& scheduler = vm.scheduler();
  lua_newtable(L);
  lua_newtable(L);
  for (unsigned index = 0; index < scheduler.worker_count(); ++index) {
    const Worker& worker = scheduler.worker(index);
    const WorkerCounters& counters = worker.counters();
    lua_newtable(L);
    set_count(L, "runs", counters.tasks_run.load(std::memory_order_relaxed));
    set_count(L, "steals", counters.tasks_stolen.load(std::memory_order_relaxed));
    set_count(L, "operations", counters.operations.load(std::memory_order_relaxed));
    set_count(L, "parks", counters.parks.load(std::memory_order_relaxed));
    set_count(L, "overruns", counters.overruns.load(std::memory_order_relaxed));
    set_count(L, "queued", worker.queued());
    lua_pushnumber(L, static_cast<double>(counters.longest_poll_gap.value()) / 1e9);
    lua_setfield(L, -2, "longest_poll_gap");
    lua_rawseti(L, -2, static_cast<lua_Integer>(index) + 1);
  }
  lua_setfield(L, -2, "workers");
  set_count(L, "slices_cut_short", Slice::cut_short());
  set_count(L, "states", Vm::count());
  set_count(L, "tasks", vm.live_fibers());
  set_count(L, "memory", vm.memory_used());
  return 1;
}

/// take_errors() -> list of errors that tasks have ended with and nobody has joined. They are told to nobody else any
/// more.
int take_errors(lua_State* L) {
  Vm& vm = Vm::of(L);
  lua_settop(L, 0);
  luaL_checkstack(L, 4, nullptr);
  vm.keep_limit(false);  // what is C++ here must not be left behind by an error
  lua_newtable(L);
  {
    lua_Integer count = 0;
    for (const std::string& trace : vm.task_errors().take()) {
      lua_pushlstring(L, trace.data(), trace.size());
      lua_rawseti(L, 1, ++count);
    }
  }
  vm.keep_limit(true);
  return 1;
}

/// trail(value, text): if `value` ends a task as its error, `text` tells where it came from.
int trail(lua_State* L) {
  luaL_checkany(L, 1);
  luaL_checkstring(L, 2);
  Vm::of(L).set_trail(L, 1, lua_tostring(L, 2));
  return 0;
}

}  // namespace

int open_task(lua_State* L) {
  const luaL_Reg functions[] = {{"sleep", sleep},
                                {"yield", yield},
                                {"now", now},
                                {"time", wall_time},
                                {"exit", leave},
                                {"spawn", spawn_task},
                                {"group", make_group},
                                {"trail", trail},
                                {"take_errors", take_errors},
                                {"bracket", bracket},
                                {"on_signal", on_signal},
                                {"atomic", atomic},
                                {"limit_cpu", limit_task_cpu},
                                {"limit_time", limit_task_time},
                                {"stats", stats},
                                {"tasks", list_tasks},
                                {"locals", task_locals},
                                {"defer", defer},
                                {"compile", compile_shared},
                                {"make_require", make_require},
                                {"list_globals", evlua_list_globals},
                                {"random_bytes", random_bytes},
                                {"pipe", pipe_bytes},
                                {nullptr, nullptr}};
  define_task_type(L);
  define_group_type(L);
  luaL_newlib(L, functions);
  lua_pushliteral(L, EVLUA_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}

}  // namespace evlua::lua
