// evlua.fs: paths and directories. Open files are in lib_file.cpp.
#include <lua.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>

#include "fs/directory.h"
#include "fs/file.h"
#include "lua/fs_values.h"
#include "lua/modules.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kDirectoryType = "evlua.directory";
constexpr lua_Integer kReadMax = std::numeric_limits<std::int32_t>::max();

void set_field(lua_State* L, const char* name, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

void set_field(lua_State* L, const char* name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

}  // namespace

int PushInfo::operator()(lua_State* L, const fs::FileInfo& info) const {
  lua_createtable(L, 0, 12);
  lua_pushstring(L, info.type);
  lua_setfield(L, -2, "type");
  set_field(L, "size", static_cast<lua_Integer>(info.size));
  set_field(L, "permissions", static_cast<lua_Integer>(info.permissions));
  set_field(L, "uid", static_cast<lua_Integer>(info.uid));
  set_field(L, "gid", static_cast<lua_Integer>(info.gid));
  set_field(L, "links", static_cast<lua_Integer>(info.links));
  set_field(L, "inode", static_cast<lua_Integer>(info.inode));
  set_field(L, "device", static_cast<lua_Integer>(info.device));
  set_field(L, "accessed", info.accessed);
  set_field(L, "modified", info.modified);
  set_field(L, "changed", info.changed);
  if (info.created != 0) set_field(L, "created", info.created);
  return 1;
}

namespace {

// -- functions ------------------------------------------------------------------------------------------------------

/// read(path[, options]): the whole file
int read_file(lua_State* L) {
  const char* path = check_path(L, 1);
  const bool has_options = check_options(L, 2, {"limit", "timeout"});
  const lua_Integer limit = has_options ? option_integer(L, 2, "limit", kReadMax) : kReadMax;
  luaL_argcheck(L, limit >= 0, 2, "option 'limit' must not be negative");
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  return suspend_task<std::string>(
      L, [=] { return fs::read_file(std::string(path), static_cast<std::size_t>(limit), deadline); }, PushString(path));
}

/// write(path, data[, options])
int write_file(lua_State* L) {
  const char* path = check_path(L, 1);
  const std::string_view bytes = check_bytes(L, 2);
  fs::WriteOptions options;
  Instant deadline = kNever;
  if (check_options(L, 3, {"atomic", "append", "permissions", "timeout"})) {
    options.atomic = option_flag(L, 3, "atomic", false);
    options.append = option_flag(L, 3, "append", false);
    options.permissions = option_permissions(L, 3);
    deadline = option_deadline(L, 3);
    luaL_argcheck(L, !(options.atomic && options.append), 3, "options 'atomic' and 'append' exclude each other");
  }
  return suspend_task<void>(
      L, [=] { return fs::write_file(std::string(path), bytes, options, deadline); }, PushTrue(path));
}

/// replace(path, data[, options]): write with `atomic`
int replace_file(lua_State* L) {
  const char* path = check_path(L, 1);
  const std::string_view bytes = check_bytes(L, 2);
  fs::WriteOptions options;
  options.atomic = true;
  Instant deadline = kNever;
  if (check_options(L, 3, {"permissions", "timeout"})) {
    options.permissions = option_permissions(L, 3);
    deadline = option_deadline(L, 3);
  }
  return suspend_task<void>(
      L, [=] { return fs::write_file(std::string(path), bytes, options, deadline); }, PushTrue(path));
}

int stat_path(lua_State* L, bool follow) {
  const char* path = check_path(L, 1);
  const Instant deadline = deadline_option(L, 2);
  return suspend_task<fs::FileInfo>(
      L, [=] { return fs::stat(std::string(path), follow, deadline); }, PushInfo(path));
}
int stat(lua_State* L) { return stat_path(L, true); }
int lstat(lua_State* L) { return stat_path(L, false); }

struct PushFlag : About {
  int operator()(lua_State* L, bool flag) const {
    lua_pushboolean(L, flag);
    return 1;
  }
};

Task<Result<bool>> path_exists(std::string path) {
  const Result<fs::FileInfo> info = co_await fs::stat(std::move(path), true);
  if (info) co_return true;
  if (info.error().is(ENOENT) || info.error().is(ENOTDIR)) co_return false;
  co_return fail(info.error());
}

int exists(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<bool>(
      L, [path] { return path_exists(std::string(path)); }, PushFlag());
}

int rename(lua_State* L) {
  const char* from = check_path(L, 1);
  const char* to = check_path(L, 2);
  const Instant deadline = deadline_option(L, 3);
  return suspend_task<void>(
      L, [=] { return fs::rename(std::string(from), std::string(to), deadline); }, PushTrue(from));
}

int remove(lua_State* L) {
  const char* path = check_path(L, 1);
  const Instant deadline = deadline_option(L, 2);
  return suspend_task<void>(
      L, [=] { return fs::unlink(std::string(path), deadline); }, PushTrue(path));
}

int rmdir(lua_State* L) {
  const char* path = check_path(L, 1);
  const Instant deadline = deadline_option(L, 2);
  return suspend_task<void>(
      L, [=] { return fs::rmdir(std::string(path), deadline); }, PushTrue(path));
}

int mkdir(lua_State* L) {
  const char* path = check_path(L, 1);
  const bool has_options = check_options(L, 2, {"parents", "permissions", "timeout"});
  const bool parents = has_options && option_flag(L, 2, "parents", false);
  const auto permissions = has_options ? option_permissions(L, 2).value_or(0777) : mode_t{0777};
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  return suspend_task<void>(
      L, [=] { return fs::mkdir(std::string(path), permissions, parents, deadline); }, PushTrue(path));
}

int symlink(lua_State* L) {
  const char* target = check_path(L, 1);
  const char* path = check_path(L, 2);
  return suspend_task<void>(
      L, [=] { return fs::symlink(std::string(target), std::string(path)); }, PushTrue(path, "symlink "));
}

int readlink(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<std::string>(
      L, [path] { return fs::readlink(std::string(path)); }, PushString(path, "readlink "));
}

int realpath(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<std::string>(
      L, [path] { return fs::realpath(std::string(path)); }, PushString(path, "realpath "));
}

// -- directories ----------------------------------------------------------------------------------------------------

struct DirectoryHandle {
  std::optional<fs::Directory> directory;
  std::vector<fs::Entry> batch;
  std::size_t next = 0;
};

int collect_directory(lua_State* L) {
  auto* handle = static_cast<DirectoryHandle*>(lua_touserdata(L, 1));
  handle->~DirectoryHandle();
  new (handle) DirectoryHandle;
  return 0;
}

struct PushEntry : About {
  DirectoryHandle* handle = nullptr;
  int operator()(lua_State* L, bool) const {
    if (handle->next >= handle->batch.size()) return 0;
    const fs::Entry& entry = handle->batch[handle->next++];
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, entry.name.data(), entry.name.size());
    lua_setfield(L, -2, "name");
    lua_pushstring(L, entry.type);
    lua_setfield(L, -2, "type");
    return 1;
  }
};

Task<Result<bool>> next_entries(DirectoryHandle& handle) {
  handle.next = 0;
  handle.batch.clear();
  Result<std::vector<fs::Entry>> batch = co_await handle.directory->next_batch();
  if (!batch) co_return fail(batch.error());
  handle.batch = std::move(*batch);
  if (handle.batch.empty()) handle.directory.reset();
  co_return true;
}

int next_entry(lua_State* L) {
  auto* handle = static_cast<DirectoryHandle*>(check_object(L, 1, kDirectoryType));
  PushEntry push;
  push.handle = handle;
  if (handle->next < handle->batch.size() || !handle->directory) return push(L, true);
  return suspend_task<bool>(
      L, [handle] { return next_entries(*handle); }, push);
}

struct PushIterator : About {
  using About::About;
  int operator()(lua_State* L, fs::Directory& directory) const {
    lua_pushcfunction(L, next_entry);
    auto* handle = new (lua_newuserdata(L, sizeof(DirectoryHandle))) DirectoryHandle;
    luaL_setmetatable(L, kDirectoryType);
    handle->directory.emplace(std::move(directory));
    return 2;
  }
};

/// for entry in assert(fs.dir(path)) do print(entry.name, entry.type) end
int dir(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<fs::Directory>(
      L, [path] { return fs::Directory::open(std::string(path)); }, PushIterator(path));
}

struct PushList : About {
  using About::About;
  int operator()(lua_State* L, const std::vector<fs::Entry>& entries) const {
    lua_createtable(L, static_cast<int>(entries.size()), 0);
    lua_Integer index = 0;
    for (const fs::Entry& entry : entries) {
      lua_pushlstring(L, entry.name.data(), entry.name.size());
      lua_rawseti(L, -2, ++index);
    }
    return 1;
  }
};

Task<Result<std::vector<fs::Entry>>> list_all(std::string path) {
  Result<fs::Directory> directory = co_await fs::Directory::open(std::move(path));
  if (!directory) co_return fail(directory.error());
  std::vector<fs::Entry> all;
  while (true) {
    Result<std::vector<fs::Entry>> batch = co_await directory->next_batch();
    if (!batch) co_return fail(batch.error());
    if (batch->empty()) break;
    for (fs::Entry& entry : *batch) all.push_back(std::move(entry));
  }
  std::sort(all.begin(), all.end(), [](const fs::Entry& a, const fs::Entry& b) { return a.name < b.name; });
  co_return all;
}

/// list(path): the names, sorted
int list(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<std::vector<fs::Entry>>(
      L, [path] { return list_all(std::string(path)); }, PushList(path));
}

}  // namespace

int open_fs(lua_State* L) {
  define_file_type(L);
  const luaL_Reg directory_meta[] = {{"__gc", collect_directory}, {nullptr, nullptr}};
  define_type(L, kDirectoryType, nullptr, directory_meta);
  const luaL_Reg functions[] = {
      {"open", open_file},       {"read", read_file},    {"write", write_file},  {"stat", stat},   {"lstat", lstat},
      {"exists", exists},        {"rename", rename},     {"remove", remove},     {"rmdir", rmdir}, {"mkdir", mkdir},
      {"symlink", symlink},      {"readlink", readlink}, {"realpath", realpath}, {"dir", dir},     {"list", list},
      {"replace", replace_file}, {nullptr, nullptr}};
  luaL_newlib(L, functions);
  add_path_functions(L);
  add_watch_function(L);
  return 1;
}

}  // namespace evlua::lua
