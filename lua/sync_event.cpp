// Events and wait groups: tasks that wait until something has happened, which lets all of them go on.
#include <limits>
#include <new>

#include "lua/stack.h"
#include "lua/sync.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kEventType = "evlua.event";
constexpr const char* kGroupType = "evlua.wait_group";

Instant deadline_at(lua_State* L, int index) {
  return check_options(L, index, {"timeout"}) ? option_deadline(L, index) : kNever;
}

// -- events -----------------------------------------------------------------------------------------------------------

SyncEvent& check_event(lua_State* L) { return *static_cast<SyncEvent*>(check_object(L, 1, kEventType)); }

int set(lua_State* L) {
  SyncEvent& event = check_event(L);
  event.set = true;
  while (CaseNode* waiter = first_in(event.waiters)) {
    List<CaseNode>::erase(*waiter);
    waiter->wait->choose(*waiter, CaseWait::Ending::done);
  }
  return 0;
}

int clear(lua_State* L) {
  check_event(L).set = false;
  return 0;
}

int is_set(lua_State* L) {
  lua_pushboolean(L, check_event(L).set ? 1 : 0);
  return 1;
}

/// wait([{timeout}])
int wait_for_event(lua_State* L) {
  SyncEvent& event = check_event(L);
  const Instant deadline = deadline_at(L, 2);
  if (!event.set) return wait_in(L, event.waiters, deadline, false);
  lua_pushboolean(L, 1);
  return 1;
}

int event_to_string(lua_State* L) {
  lua_pushfstring(L, "event (%s): %p", check_event(L).set ? "set" : "not set", lua_topointer(L, 1));
  return 1;
}

// -- wait groups ------------------------------------------------------------------------------------------------------

struct WaitGroup {
  lua_Integer count = 0;
  LineWait::Line waiters;
};

WaitGroup& check_wait_group(lua_State* L) { return *static_cast<WaitGroup*>(check_object(L, 1, kGroupType)); }

void change(lua_State* L, WaitGroup& group, lua_Integer by) {
  if (group.count + by < 0) luaL_error(L, "more is done than was added");
  group.count += by;
  if (group.count != 0) return;
  while (LineWait* waiter = first_in(group.waiters)) waiter->grant();
}

/// add([n = 1])
int add(lua_State* L) {
  WaitGroup& group = check_wait_group(L);
  change(L, group, lua_isnoneornil(L, 2) ? 1 : check_range(L, 2, 0, std::numeric_limits<std::int32_t>::max()));
  return 0;
}

int done(lua_State* L) {
  change(L, check_wait_group(L), -1);
  return 0;
}

int count(lua_State* L) {
  lua_pushinteger(L, check_wait_group(L).count);
  return 1;
}

/// wait([{timeout}])
int wait_for_group(lua_State* L) {
  WaitGroup& group = check_wait_group(L);
  const Instant deadline = deadline_at(L, 2);
  if (group.count > 0) return suspend<LineWait>(L, group.waiters, deadline, &group, [](void*) noexcept {});
  lua_pushboolean(L, 1);
  return 1;
}

int group_to_string(lua_State* L) {
  lua_pushfstring(L, "wait_group (%I): %p", check_wait_group(L).count, lua_topointer(L, 1));
  return 1;
}

}  // namespace

SyncEvent* to_sync_event(lua_State* L, int index) {
  return static_cast<SyncEvent*>(luaL_testudata(L, index, kEventType));
}

int make_sync_event(lua_State* L) {
  new (lua_newuserdata(L, sizeof(SyncEvent))) SyncEvent;
  luaL_setmetatable(L, kEventType);
  return 1;
}

int make_wait_group(lua_State* L) {
  new (lua_newuserdata(L, sizeof(WaitGroup))) WaitGroup;
  luaL_setmetatable(L, kGroupType);
  return 1;
}

void define_sync_events(lua_State* L) {
  const luaL_Reg event[] = {
      {"set", set}, {"clear", clear}, {"is_set", is_set}, {"wait", wait_for_event}, {nullptr, nullptr}};
  const luaL_Reg event_meta[] = {{"__tostring", event_to_string}, {nullptr, nullptr}};
  define_type(L, kEventType, event, event_meta);
  const luaL_Reg group[] = {
      {"add", add}, {"done", done}, {"count", count}, {"wait", wait_for_group}, {nullptr, nullptr}};
  const luaL_Reg group_meta[] = {{"__tostring", group_to_string}, {nullptr, nullptr}};
  define_type(L, kGroupType, group, group_meta);
}

}  // namespace evlua::lua
