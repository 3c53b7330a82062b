#include "lua/type_label.h"

#include <string_view>

#include "core/check.h"

namespace evlua::lua {

const char* type_label(const char* name) noexcept {
  struct Label {
    const char* name;
    const char* label;
  };
  static constexpr Label kLabels[] = {
      {"evlua.channel", "thread channel"},   {"evlua.sync_channel", "channel"},
      {"evlua.child", "child process"},      {"evlua.datagram", "datagram socket"},
      {"evlua.dict", "shared dictionary"},   {"evlua.events", "event stream"},
      {"evlua.file", "file of evlua.fs"},    {"evlua.lua_state", "Lua state"},
      {"evlua.multipart", "multipart form"}, {"evlua.part", "part of a form"},
      {"evlua.process_request", "program"},  {"evlua.rwlock", "read-write lock"},
      {"evlua.task_group", "task group"},    {"evlua.wait_group", "wait group"},
      {"evlua.lock", "shared lock"},         {"evlua.task_failure", "failure"},
      {"evlua.multipart_reader", "reader"},  {"evlua.key_list", "list of keys"},
      {"evlua.watch", "watch of a key"},     {"evlua.dict_handle", "shared dictionary"}};
  const std::string_view wanted = name;
  for (const Label& one : kLabels) {
    if (wanted == one.name) return one.label;
  }
  constexpr std::string_view kPrefix = "evlua.";
  return wanted.starts_with(kPrefix) ? name + kPrefix.size() : name;
}

void* check_object(lua_State* L, int index, const char* name) {
  void* found = luaL_testudata(L, index, name);
  if (found != nullptr) return found;
  const char* got = luaL_typename(L, index);
  if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING) {
    got = lua_tostring(L, -1);
  } else if (lua_type(L, index) == LUA_TLIGHTUSERDATA) {
    got = "light userdata";
  }
  luaL_argerror(L, index, lua_pushfstring(L, "%s expected, got %s", type_label(name), got));
  EVLUA_UNREACHABLE();
}

}  // namespace evlua::lua
