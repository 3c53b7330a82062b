// The value that evlua.spawn returns, and groups of them.
//
// A task handle is a userdata that the fiber keeps alive while it runs. When the
// fiber ends, its results move into the handle's user value and the fiber goes back to the pool; so a finished task
// costs no fiber, and a handle that nobody keeps costs nothing after its task has ended.
#pragma once

#include <lua.hpp>

#include "core/intrusive.h"
#include "lua/fiber.h"

namespace evlua::lua {

struct JoinWait;
struct TaskGroup;

struct TaskHandle : Fiber::Owner, ListNode {
  enum class State : unsigned char { running, returned, failed, cancelled, timed_out, limited };

  Fiber* fiber = nullptr;  ///< while running
  State state = State::running;
  int result_count = 0;
  List<JoinWait> waiters;
  TaskGroup* group = nullptr;  ///< while running; the list node is the membership
};

/// Tells the group that its member has ended; The handle is on top of L. [strand]
void group_member_ended(lua_State* L, TaskHandle& handle);

/// Spawns the function at index 1 with the arguments above it, and replaces all of that by the handle.
TaskHandle& push_spawned(lua_State* L);

/// Pushes its name, or where it was spawned.
void push_task_name(lua_State* L, Fiber& fiber);

int spawn_task(lua_State* L);
/// limit_cpu(task, seconds), for a task that has not begun.
int limit_task_cpu(lua_State* L);
/// limit_time(task, seconds): the same for the time that passes, where the task computes.
int limit_task_time(lua_State* L);
/// Errors end what it does, and what those do that share its limits. [strand]
void interrupt_task(TaskHandle& handle) noexcept;
int make_group(lua_State* L);
void define_task_type(lua_State* L);
void define_group_type(lua_State* L);

}  // namespace evlua::lua
