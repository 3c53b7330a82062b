// evlua.fs: what is done to files by their paths besides reading, writing and naming them.
#include <lua.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fs/metadata.h"
#include "fs/tree.h"
#include "lua/fs_values.h"

namespace evlua::lua {

namespace {

/// "verb path: "
template <class Make>
int done_to(lua_State* L, const char* path, const char* verb, Make make) {
  return suspend_task<void>(L, make, PushTrue(path, verb));
}

// -- permissions, owner, times --------------------------------------------------------------------------------------

int chmod(lua_State* L) {
  const char* path = check_path(L, 1);
  const auto permissions = static_cast<mode_t>(check_range(L, 2, 0, kPermissionsMax));
  return done_to(L, path, "chmod ", [=] { return fs::change_permissions(path, permissions); });
}

/// A name or a number; "" where it is nil.
const char* check_account(lua_State* L, int index) {
  if (lua_isnoneornil(L, index)) return "";
  if (lua_type(L, index) == LUA_TNUMBER) (void)check_range(L, index, 0, std::numeric_limits<std::uint32_t>::max() - 1);
  return check_path(L, index);
}

bool follows(lua_State* L, int index) {
  return !check_options(L, index, {"follow"}) || option_flag(L, index, "follow", true);
}

/// chown(path, user, group[, options])
int chown(lua_State* L) {
  const char* path = check_path(L, 1);
  const char* user = check_account(L, 2);
  const char* group = check_account(L, 3);
  const bool follow = follows(L, 4);
  return done_to(L, path, "chown ", [=] { return fs::change_owner(path, user, group, follow); });
}

std::optional<double> check_time(lua_State* L, int index) {
  constexpr double kSecondsMax = 1e12;
  if (lua_isnoneornil(L, index)) return std::nullopt;
  const double seconds = luaL_checknumber(L, index);
  luaL_argcheck(L, seconds >= -kSecondsMax && seconds <= kSecondsMax, index, "out of range");
  return seconds;
}

/// utimes(path, accessed, modified[, options])
int utimes(lua_State* L) {
  const char* path = check_path(L, 1);
  const std::optional<double> accessed = check_time(L, 2);
  const std::optional<double> modified = check_time(L, 3);
  const bool follow = follows(L, 4);
  return done_to(L, path, "utimes ", [=] { return fs::change_times(path, accessed, modified, follow); });
}

int link(lua_State* L) {
  const char* existing = check_path(L, 1);
  const char* path = check_path(L, 2);
  return done_to(L, path, "link ", [=] { return fs::link(existing, path); });
}

// -- extended attributes --------------------------------------------------------------------------------------------

int getxattr(lua_State* L) {
  const char* path = check_path(L, 1);
  const char* name = check_path(L, 2);
  return suspend_task<std::string>(
      L, [=] { return fs::get_attribute(path, name); }, PushString(path, "getxattr "));
}

int setxattr(lua_State* L) {
  const char* path = check_path(L, 1);
  const char* name = check_path(L, 2);
  const std::string_view value = check_bytes(L, 3);
  return done_to(L, path, "setxattr ", [=] { return fs::set_attribute(path, name, value); });
}

int removexattr(lua_State* L) {
  const char* path = check_path(L, 1);
  const char* name = check_path(L, 2);
  return done_to(L, path, "removexattr ", [=] { return fs::remove_attribute(path, name); });
}

struct PushNames : About {
  using About::About;
  int operator()(lua_State* L, const std::vector<std::string>& names) const {
    lua_createtable(L, static_cast<int>(names.size()), 0);
    lua_Integer index = 0;
    for (const std::string& name : names) {
      lua_pushlstring(L, name.data(), name.size());
      lua_rawseti(L, -2, ++index);
    }
    return 1;
  }
};

int listxattr(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<std::vector<std::string>>(
      L, [=] { return fs::list_attributes(path); }, PushNames(path, "listxattr "));
}

// -- trees and temporary files --------------------------------------------------------------------------------------

/// copy_file(from, to, overwrite, preserve), for lib/fs.lua
int copy_file(lua_State* L) {
  const char* from = check_path(L, 1);
  const char* to = check_path(L, 2);
  const fs::CopyOptions options{lua_toboolean(L, 3) != 0, lua_toboolean(L, 4) != 0};
  return done_to(L, from, "copy ", [=] { return fs::copy_file(from, to, options); });
}

int remove_all(lua_State* L) {
  const char* path = check_path(L, 1);
  return done_to(L, path, "remove ", [=] { return fs::remove_tree(path); });
}

/// The string option, without NUL bytes; `otherwise` when absent. `is_name`: without "/" as well.
const char* name_option(lua_State* L, const char* name, const char* otherwise, bool is_name) {
  std::size_t size = 0;
  const char* text = option_string(L, 1, name, &size);
  if (text == nullptr) return otherwise;
  const std::string_view view(text, size);
  if (view.find('\0') != std::string_view::npos || (is_name && view.find('/') != std::string_view::npos)) {
    luaL_argerror(L, 1, lua_pushfstring(L, "option '%s' contains a byte that it must not", name));
  }
  return text;
}

struct TemporaryOptions {
  const char* directory = "";
  const char* prefix = "evlua-";
  const char* suffix = "";

  fs::TemporaryName name() const { return {directory, prefix, suffix}; }
};

TemporaryOptions check_temporary(lua_State* L) {
  TemporaryOptions options;
  if (!check_options(L, 1, {"dir", "prefix", "suffix"})) return options;
  options.directory = name_option(L, "dir", options.directory, false);
  options.prefix = name_option(L, "prefix", options.prefix, true);
  options.suffix = name_option(L, "suffix", options.suffix, true);
  return options;
}

struct PushTemporary : About {
  using About::About;
  int operator()(lua_State* L, std::pair<fs::File, std::string>& made) const {
    push_file(L, made.first);
    lua_pushlstring(L, made.second.data(), made.second.size());
    return 2;
  }
};

/// temp_file([options]) -> file, path
int temp_file(lua_State* L) {
  const TemporaryOptions options = check_temporary(L);
  return suspend_task<std::pair<fs::File, std::string>>(
      L, [options] { return fs::make_temporary_file(options.name()); }, PushTemporary(options.directory));
}

/// temp_dir([options]) -> path
int temp_dir(lua_State* L) {
  const TemporaryOptions options = check_temporary(L);
  return suspend_task<std::string>(
      L, [options] { return fs::make_temporary_directory(options.name()); }, PushString(options.directory));
}

}  // namespace

void add_path_functions(lua_State* L) {
  const luaL_Reg functions[] = {
      {"chmod", chmod},         {"chown", chown},           {"utimes", utimes},           {"link", link},
      {"getxattr", getxattr},   {"setxattr", setxattr},     {"removexattr", removexattr}, {"listxattr", listxattr},
      {"copy_file", copy_file}, {"remove_all", remove_all}, {"temp_file", temp_file},     {"temp_dir", temp_dir},
      {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
}

}  // namespace evlua::lua
