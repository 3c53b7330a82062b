// What a task waits on is the name of the function that it is in, as users know it: of its innermost frames that are
// the runtime's own, the outermost which has a name. So waiting costs nothing for being shown.
#include "lua/task_list.h"

#include <cstring>
#include <string_view>

#include "core/worker.h"
#include "lua/fiber.h"
#include "lua/modules.h"
#include "lua/task_handle.h"

namespace evlua::lua {

namespace {

/// For each function in the table on top: names[function] = prefix .. key. `names` is an absolute index.
void name_functions(lua_State* L, int names, const char* prefix) {
  lua_pushnil(L);
  while (lua_next(L, -2) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_isfunction(L, -1)) {
      lua_pushfstring(L, "%s%s", prefix, lua_tostring(L, -2));
      lua_rawset(L, names);
    } else {
      lua_pop(L, 1);
    }
  }
}

/// Pushes the table of the methods of the metatable on top; false, and nothing pushed, when there is none.
bool push_methods(lua_State* L) {
  lua_getfield(L, -1, "__index");
  if (lua_iscfunction(L, -1) != 0 && lua_getupvalue(L, -1, 1) != nullptr) lua_remove(L, -2);
  if (lua_istable(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

/// "evlua.sync_channel" -> "channel"
std::string_view type_name(std::string_view registered) {
  registered.remove_prefix(registered.rfind('.') + 1);
  if (registered.starts_with("sync_")) registered.remove_prefix(5);
  return registered;
}

/// REQUIRES: the key and the metatable of a type are on top.
void name_type(lua_State* L, int names) {
  const std::string_view name = type_name(lua_tostring(L, -2));
  lua_pushlstring(L, name.data(), name.size());
  lua_pushfstring(L, "%s:", lua_tostring(L, -1));
  lua_remove(L, -2);
  lua_insert(L, -2);
  const char* prefix = lua_tostring(L, -2);
  if (push_methods(L)) {
    name_functions(L, names, prefix);
    lua_pop(L, 1);
  }
  if (lua_getfield(L, -1, "__call") == LUA_TFUNCTION) {  // for value in channel do
    lua_pushfstring(L, "%sreceive", prefix);
    lua_rawset(L, names);
  } else {
    lua_pop(L, 1);
  }
  lua_remove(L, -2);
}

/// Pushes a table: function -> name.
void push_names(lua_State* L) {
  luaL_checkstack(L, 12, nullptr);
  lua_newtable(L);
  const int names = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushnil(L);
  while (lua_next(L, names + 1) != 0) {
    const char* module = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    const bool ours = std::strncmp(module, "evlua", 5) == 0;
    if (lua_istable(L, -1) && (ours || std::strcmp(module, "io") == 0 || std::strcmp(module, "os") == 0)) {
      const char* shown = ours ? (module[5] == '.' ? module + 6 : "") : module;
      lua_pushfstring(L, *shown != '\0' ? "%s." : "%s", shown);
      lua_insert(L, -2);
      name_functions(L, names, lua_tostring(L, -2));
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  lua_pushnil(L);
  while (lua_next(L, LUA_REGISTRYINDEX) != 0) {
    const bool named = lua_type(L, -2) == LUA_TSTRING && lua_istable(L, -1);
    const std::string_view key = named ? lua_tostring(L, -2) : "";
    if (key.starts_with("evlua.") && key != "evlua.task_group") name_type(L, names);
    lua_pop(L, 1);
  }
}

/// Pushes what a waiting fiber waits on. The names are at index `names`.
void push_wait(lua_State* L, Fiber& fiber, int names) {
  lua_State* inner = fiber.innermost();
  lua_pushliteral(L, "?");
  lua_Debug where;
  bool found = false;
  for (int level = 0; lua_getstack(inner, level, &where) != 0 && lua_checkstack(inner, 1) != 0; ++level) {
    lua_getinfo(inner, "nSf", &where);
    lua_xmove(inner, L, 1);
    const bool own = *where.what == 'C' || std::string_view(where.source).starts_with(kOwnChunk);
    if (!own) {
      lua_pop(L, 1);
      return;
    }
    const char* called = where.name;
    if (lua_rawget(L, names) == LUA_TSTRING) {
      lua_replace(L, -2);
      found = true;
      continue;
    }
    lua_pop(L, 1);
    if (!found && called != nullptr) {
      lua_pushstring(L, called);
      lua_replace(L, -2);
    }
  }
}

/// Pushes "waiting" or "running", and what it waits on or nil.
void push_state(lua_State* L, Fiber& fiber, int names) {
  if (fiber.ending()) {
    lua_pushliteral(L, "waiting");
    lua_pushliteral(L, "defer");
  } else if (fiber.waiting()) {
    lua_pushliteral(L, "waiting");
    push_wait(L, fiber, names);
  } else {
    lua_pushliteral(L, "running");
    lua_pushnil(L);
  }
}

/// Pushes its traceback. The coroutine that runs is not among those that the fiber knows of.
void push_traceback(lua_State* L, Fiber& fiber) {
  const bool runs = &fiber == Vm::of(L).running() && L != fiber.root();
  if (runs) luaL_traceback(L, L, nullptr, 0);
  {
    const std::string text = fiber.traceback(runs ? "in coroutine resumed by:" : nullptr);
    lua_pushlstring(L, text.data(), text.size());
  }
  if (!runs) return;
  lua_pushliteral(L, "\n");
  lua_insert(L, -2);
  lua_concat(L, 3);
}

}  // namespace

int list_tasks(lua_State* L) {
  Vm& vm = Vm::of(L);
  lua_settop(L, 0);
  luaL_checkstack(L, 20, nullptr);
  vm.keep_limit(false);  // what is C++ here must not be left behind by an error
  push_names(L);
  lua_newtable(L);
  lua_Integer count = 0;
  const Instant now = Worker::current().backend().now();
  vm.for_each_live([&](Fiber& fiber) {
    lua_createtable(L, 0, 6);
    push_task_name(L, fiber);
    lua_setfield(L, -2, "name");
    push_state(L, fiber, 1);
    lua_setfield(L, -3, "waits_on");
    lua_setfield(L, -2, "status");
    lua_pushnumber(L, static_cast<double>(now - fiber.began()) / 1e9);
    lua_setfield(L, -2, "age");
    push_traceback(L, fiber);
    lua_setfield(L, -2, "traceback");
    fiber.push_anchored(L);
    lua_setfield(L, -2, "task");
    lua_rawseti(L, 2, ++count);
  });
  vm.keep_limit(true);
  return 1;
}

std::string describe_tasks(Vm& vm) {
  lua_State* L = vm.main_state();
  const int top = lua_gettop(L);
  push_names(L);
  std::string text;
  vm.for_each_live([&](Fiber& fiber) {
    push_task_name(L, fiber);
    push_state(L, fiber, top + 1);
    std::string heading = lua_tostring(L, top + 2);
    heading += std::string(", ") + lua_tostring(L, top + 3);
    if (lua_isstring(L, top + 4) != 0) heading += std::string(" for ") + lua_tostring(L, top + 4);
    text += fiber.traceback((heading + ":").c_str()) + "\n";
    lua_settop(L, top + 1);
  });
  lua_settop(L, top);
  return text;
}

}  // namespace evlua::lua
