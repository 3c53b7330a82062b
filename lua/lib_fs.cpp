// evlua.fs: files, paths, directories.
#include <lua.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>

#include "core/frame_pool.h"
#include "fs/directory.h"
#include "fs/file.h"
#include "fs/path_ops.h"
#include "lua/bridge.h"
#include "lua/modules.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

constexpr const char* kFileType = "evlua.file";
constexpr const char* kDirectoryType = "evlua.directory";
constexpr lua_Integer kReadMax = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kPiece = 65536;

/// An open file as Lua sees it: a position, and what was read ahead for lines.
struct FileHandle {
  fs::File file;
  std::int64_t position = 0;  // of the next byte to read from the system; -1: cannot seek
  std::string ahead;          // bytes before `position` that were not handed out
  int in_use = 0;             // operations in flight; the descriptor stays open until they have ended
  bool closed = false;

  std::int64_t tell() const noexcept { return position - static_cast<std::int64_t>(ahead.size()); }
};

/// Keeps the descriptor open while an operation runs.
class InUse {
 public:
  explicit InUse(FileHandle& handle) noexcept : handle_(handle) { ++handle_.in_use; }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;
  ~InUse() {
    if (--handle_.in_use == 0 && handle_.closed) handle_.file = fs::File();
  }

 private:
  FileHandle& handle_;
};

FileHandle& check_file(lua_State* L) { return *static_cast<FileHandle*>(luaL_checkudata(L, 1, kFileType)); }

/// Pushes the failure of a closed file; the caller returns 3.
bool refuse_closed(lua_State* L, const FileHandle& handle) {
  if (!handle.closed) return false;
  push_failure(L, "file is closed", "EBADF");
  return true;
}

Instant deadline_option(lua_State* L, int index) {
  return check_options(L, index, {"timeout"}) ? option_deadline(L, index) : kNever;
}

// -- pushers --------------------------------------------------------------------------------------------------------

/// What failures are about: the path, copied, since arguments may be anything.
struct About {
  char text[96] = {};
  About() = default;
  explicit About(const char* path) noexcept {
    const std::size_t size = std::min(std::char_traits<char>::length(path), sizeof text - 1);
    std::char_traits<char>::copy(text, path, size);
  }
  const char* subject() const noexcept { return text[0] != '\0' ? text : nullptr; }
};

struct PushTrue : About {
  using About::About;
  int operator()(lua_State* L) const {
    lua_pushboolean(L, 1);
    return 1;
  }
};

struct PushString : About {
  using About::About;
  int operator()(lua_State* L, const std::string& bytes) const {
    lua_pushlstring(L, bytes.data(), bytes.size());
    return 1;
  }
};

struct PushFile : About {
  using About::About;
  int operator()(lua_State* L, fs::File& file) const {
    auto* handle = new (lua_newuserdata(L, sizeof(FileHandle))) FileHandle;
    luaL_setmetatable(L, kFileType);
    handle->file = std::move(file);
    if (::lseek(handle->file.fd(), 0, SEEK_CUR) < 0) handle->position = -1;
    return 1;
  }
};

void set_field(lua_State* L, const char* name, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

void set_field(lua_State* L, const char* name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

struct PushInfo : About {
  using About::About;
  int operator()(lua_State* L, const fs::FileInfo& info) const {
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
};

// -- files: reading -------------------------------------------------------------------------------------------------

/// One read straight from the fiber's slot: no task, no allocation but the bytes themselves.
struct ReadWait : OpWait {
  ReadWait(FileHandle& from, std::size_t size, std::int64_t offset, bool sequential, Instant until)
      : OpWait(OpCode::read, from.file.fd(), until), handle(from), capacity(size), moves(sequential), guard(from) {
    data = frame_allocate(size);
    args.read = {data, static_cast<std::uint32_t>(size), offset};
    finish = [](Suspension& self, lua_State* L) { return static_cast<ReadWait&>(self).push(L); };
  }
  ~ReadWait() { frame_free(data, capacity); }

  int push(lua_State* L) {
    const std::int32_t got = outcome();
    if (got < 0) return push_wait_failure(L, Error{-got, ErrorDomain::system, OpCode::read});
    if (got == 0) return push_failure(L, Error{static_cast<int>(Errc::end_of_file), ErrorDomain::runtime});
    if (moves && handle.position >= 0) handle.position += got;
    lua_pushlstring(L, static_cast<const char*>(data), static_cast<std::size_t>(got));
    return 1;
  }

  FileHandle& handle;
  void* data;
  std::size_t capacity;
  bool moves;
  InUse guard;
};

/// read_at(n, offset[, options])
int read_at(lua_State* L) {
  FileHandle& handle = check_file(L);
  const auto size = static_cast<std::size_t>(check_range(L, 2, 1, kReadMax));
  const lua_Integer offset = check_range(L, 3, 0, std::numeric_limits<lua_Integer>::max());
  const Instant deadline = deadline_option(L, 4);
  if (refuse_closed(L, handle)) return 3;
  return suspend<ReadWait>(L, handle, size, offset, false, deadline);
}

Task<Result<std::size_t>> read_ahead(FileHandle& handle, Instant deadline) {
  const std::size_t before = handle.ahead.size();
  handle.ahead.resize(before + kPiece);
  const Result<std::size_t> got =
      co_await handle.file.read_at(handle.ahead.data() + before, kPiece, handle.position, deadline);
  handle.ahead.resize(before + (got ? *got : 0));
  if (got && handle.position >= 0) handle.position += static_cast<std::int64_t>(*got);
  co_return got;
}

std::string take_ahead(FileHandle& handle, std::size_t size, std::size_t drop = 0) {
  std::string taken = handle.ahead.substr(0, size);
  handle.ahead.erase(0, size + drop);
  return taken;
}

Task<Result<std::string>> read_line(FileHandle& handle, bool keep_end, Instant deadline) {
  const InUse guard(handle);
  std::size_t searched = 0;
  while (true) {
    const std::size_t at = handle.ahead.find('\n', searched);
    if (at != std::string::npos) co_return keep_end ? take_ahead(handle, at + 1) : take_ahead(handle, at, 1);
    searched = handle.ahead.size();
    const Result<std::size_t> got = co_await read_ahead(handle, deadline);
    if (!got) co_return fail(got.error());
    if (*got != 0) continue;
    if (handle.ahead.empty()) co_return fail(Errc::end_of_file, OpCode::read);
    co_return take_ahead(handle, handle.ahead.size());
  }
}

Task<Result<std::string>> read_rest(FileHandle& handle, Instant deadline) {
  const InUse guard(handle);
  while (true) {
    const Result<std::size_t> got = co_await read_ahead(handle, deadline);
    if (!got) co_return fail(got.error());
    if (*got == 0) co_return take_ahead(handle, handle.ahead.size());
  }
}

/// read([n | "l" | "L" | "a"[, options]])
int read(lua_State* L) {
  FileHandle& handle = check_file(L);
  const Instant deadline = deadline_option(L, 3);
  if (lua_type(L, 2) == LUA_TSTRING && lua_isnumber(L, 2) == 0) {
    const char* format = lua_tostring(L, 2);
    if (*format == '*') ++format;
    luaL_argcheck(L, *format == 'l' || *format == 'L' || *format == 'a', 2,
                  "a number of bytes, \"l\", \"L\" or \"a\" expected");
    if (refuse_closed(L, handle)) return 3;
    if (*format == 'a') {
      return suspend_task<std::string>(
          L, [&handle, deadline] { return read_rest(handle, deadline); }, PushString());
    }
    const bool keep = *format == 'L';
    return suspend_task<std::string>(
        L, [&handle, keep, deadline] { return read_line(handle, keep, deadline); }, PushString());
  }
  const auto size =
      static_cast<std::size_t>(lua_isnoneornil(L, 2) ? lua_Integer{kPiece} : check_range(L, 2, 1, kReadMax));
  if (refuse_closed(L, handle)) return 3;
  if (!handle.ahead.empty()) {
    const std::size_t taken = std::min(size, handle.ahead.size());
    lua_pushlstring(L, handle.ahead.data(), taken);
    handle.ahead.erase(0, taken);
    return 1;
  }
  return suspend<ReadWait>(L, handle, size, handle.position, true, deadline);
}

int next_line(lua_State* L) {
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  return read(L);
}

/// for line in file:lines([format]) do ... end
int lines(lua_State* L) {
  (void)check_file(L);
  if (lua_isnoneornil(L, 2)) {
    lua_settop(L, 1);
    lua_pushliteral(L, "l");
  }
  lua_settop(L, 2);
  lua_pushcclosure(L, next_line, 2);
  return 1;
}

/// for chunk in file:chunks([n]) do ... end
int chunks(lua_State* L) {
  (void)check_file(L);
  const lua_Integer size = lua_isnoneornil(L, 2) ? lua_Integer{kPiece} : check_range(L, 2, 1, kReadMax);
  lua_settop(L, 1);
  lua_pushinteger(L, size);
  lua_pushcclosure(L, next_line, 2);
  return 1;
}

// -- files: writing and the rest ------------------------------------------------------------------------------------

Task<Result<void>> write_sequential(FileHandle& handle, std::string_view bytes, Instant deadline) {
  const InUse guard(handle);
  if (handle.position >= 0) handle.position = handle.tell();
  handle.ahead.clear();
  const std::int64_t offset = handle.file.appends() ? -1 : handle.position;
  const Result<void> wrote = co_await handle.file.write_at(bytes, offset, deadline);
  if (wrote && offset >= 0) handle.position += static_cast<std::int64_t>(bytes.size());
  co_return wrote;
}

int write(lua_State* L) {
  FileHandle& handle = check_file(L);
  const std::string_view bytes = check_bytes(L, 2);
  const Instant deadline = deadline_option(L, 3);
  if (refuse_closed(L, handle)) return 3;
  return suspend_task<void>(
      L, [&handle, bytes, deadline] { return write_sequential(handle, bytes, deadline); }, PushTrue());
}

Task<Result<void>> write_somewhere(FileHandle& handle, std::string_view bytes, std::int64_t offset, Instant deadline) {
  const InUse guard(handle);
  const Result<void> wrote = co_await handle.file.write_at(bytes, offset, deadline);
  co_return wrote;
}

int write_at(lua_State* L) {
  FileHandle& handle = check_file(L);
  const std::string_view bytes = check_bytes(L, 2);
  const lua_Integer offset = check_range(L, 3, 0, std::numeric_limits<lua_Integer>::max());
  const Instant deadline = deadline_option(L, 4);
  if (refuse_closed(L, handle)) return 3;
  return suspend_task<void>(
      L, [&handle, bytes, offset, deadline] { return write_somewhere(handle, bytes, offset, deadline); }, PushTrue());
}

Task<Result<void>> sync_file(FileHandle& handle, bool data_only, Instant deadline) {
  const InUse guard(handle);
  const Result<void> synced = co_await handle.file.sync(data_only, deadline);
  co_return synced;
}

int sync(lua_State* L) {
  FileHandle& handle = check_file(L);
  const bool has_options = check_options(L, 2, {"data_only", "timeout"});
  const bool data_only = has_options && option_flag(L, 2, "data_only", false);
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  if (refuse_closed(L, handle)) return 3;
  return suspend_task<void>(
      L, [&handle, data_only, deadline] { return sync_file(handle, data_only, deadline); }, PushTrue());
}

Task<Result<void>> truncate_file(FileHandle& handle, std::int64_t size) {
  const InUse guard(handle);
  const Result<void> done = co_await handle.file.truncate(size);
  co_return done;
}

int truncate(lua_State* L) {
  FileHandle& handle = check_file(L);
  const lua_Integer size =
      lua_isnoneornil(L, 2) ? handle.tell() : check_range(L, 2, 0, std::numeric_limits<lua_Integer>::max());
  if (refuse_closed(L, handle)) return 3;
  return suspend_task<void>(
      L, [&handle, size] { return truncate_file(handle, size); }, PushTrue());
}

Task<Result<fs::FileInfo>> stat_file(FileHandle& handle) {
  const InUse guard(handle);
  Result<fs::FileInfo> info = co_await fs::stat(handle.file.fd());
  co_return info;
}

int stat_method(lua_State* L) {
  FileHandle& handle = check_file(L);
  if (refuse_closed(L, handle)) return 3;
  return suspend_task<fs::FileInfo>(
      L, [&handle] { return stat_file(handle); }, PushInfo());
}

struct PushPosition : About {
  int operator()(lua_State* L, std::int64_t position) const {
    lua_pushinteger(L, position);
    return 1;
  }
};

Task<Result<std::int64_t>> seek_from_end(FileHandle& handle, std::int64_t offset) {
  const InUse guard(handle);
  const Result<fs::FileInfo> info = co_await fs::stat(handle.file.fd());
  if (!info) co_return fail(info.error());
  const std::int64_t target = static_cast<std::int64_t>(info->size) + offset;
  if (target < 0) co_return fail(EINVAL);
  handle.ahead.clear();
  handle.position = target;
  co_return target;
}

/// seek([whence[, offset]]): as Lua's io.
int seek(lua_State* L) {
  FileHandle& handle = check_file(L);
  static const char* const names[] = {"set", "cur", "end", nullptr};
  const int whence = luaL_checkoption(L, 2, "cur", names);
  const lua_Integer offset = luaL_optinteger(L, 3, 0);
  if (refuse_closed(L, handle)) return 3;
  if (handle.position < 0) return push_failure(L, Error{ESPIPE, ErrorDomain::system});
  if (whence == 2) {
    return suspend_task<std::int64_t>(
        L, [&handle, offset] { return seek_from_end(handle, offset); }, PushPosition());
  }
  const lua_Integer target = whence == 0 ? offset : handle.tell() + offset;
  if (target < 0) return push_failure(L, Error{EINVAL, ErrorDomain::system});
  if (target != handle.tell()) {
    handle.ahead.clear();
    handle.position = target;
  }
  lua_pushinteger(L, target);
  return 1;
}

/// Waits for the close itself, so that its error is seen; operations in flight keep the descriptor a little longer.
Task<Result<void>> close_file(FileHandle& handle) {
  if (handle.in_use > 0) co_return Result<void>();
  const Result<void> closed = co_await handle.file.close();
  co_return closed;
}

int close(lua_State* L) {
  FileHandle& handle = check_file(L);
  if (handle.closed) {
    lua_pushboolean(L, 1);
    return 1;
  }
  Fiber& fiber = fiber_to_wait(L);
  handle.closed = true;
  if (fiber.cancelled() != OpStop::none) {
    if (handle.in_use == 0) handle.file = fs::File();  // in the background
    lua_pushboolean(L, 1);
    return 1;
  }
  return suspend_task<void>(
      L, [&handle] { return close_file(handle); }, PushTrue());
}

int flush(lua_State* L) {
  (void)check_file(L);  // writes are unbuffered
  lua_pushboolean(L, 1);
  return 1;
}

int file_to_string(lua_State* L) {
  const FileHandle& handle = check_file(L);
  if (handle.closed) {
    lua_pushliteral(L, "file (closed)");
  } else {
    lua_pushfstring(L, "file (descriptor %d)", handle.file.fd());
  }
  return 1;
}

int collect_file(lua_State* L) {
  auto* handle = static_cast<FileHandle*>(lua_touserdata(L, 1));
  handle->~FileHandle();
  new (handle) FileHandle;
  handle->closed = true;
  return 0;
}

// -- functions ------------------------------------------------------------------------------------------------------

/// open(path[, mode[, options]])
int open(lua_State* L) {
  const char* path = check_path(L, 1);
  const char* mode = luaL_optstring(L, 2, "r");
  const Result<fs::OpenMode> parsed = fs::parse_mode(mode);
  luaL_argcheck(L, parsed.has_value(), 2, "invalid mode (\"r\", \"w\" or \"a\", then \"+\", \"b\", \"x\")");
  const bool has_options = check_options(L, 3, {"permissions", "timeout"});
  const auto permissions = static_cast<mode_t>(has_options ? option_integer(L, 3, "permissions", 0666) : 0666);
  const Instant deadline = has_options ? option_deadline(L, 3) : kNever;
  const fs::OpenMode how = *parsed;
  return suspend_task<fs::File>(
      L, [=] { return fs::File::open(std::string(path), how, permissions, deadline); }, PushFile(path));
}

/// read(path[, options]): the whole file
int read_file(lua_State* L) {
  const char* path = check_path(L, 1);
  const bool has_options = check_options(L, 2, {"limit", "timeout"});
  const auto limit = static_cast<std::size_t>(has_options ? option_integer(L, 2, "limit", kReadMax) : kReadMax);
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  return suspend_task<std::string>(
      L, [=] { return fs::read_file(std::string(path), limit, deadline); }, PushString(path));
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
    options.permissions = static_cast<mode_t>(option_integer(L, 3, "permissions", 0666));
    deadline = option_deadline(L, 3);
    luaL_argcheck(L, !(options.atomic && options.append), 3, "options 'atomic' and 'append' exclude each other");
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
  const auto permissions = static_cast<mode_t>(has_options ? option_integer(L, 2, "permissions", 0777) : 0777);
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  return suspend_task<void>(
      L, [=] { return fs::mkdir(std::string(path), permissions, parents, deadline); }, PushTrue(path));
}

int symlink(lua_State* L) {
  const char* target = check_path(L, 1);
  const char* path = check_path(L, 2);
  return suspend_task<void>(
      L, [=] { return fs::symlink(std::string(target), std::string(path)); }, PushTrue(path));
}

int readlink(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<std::string>(
      L, [path] { return fs::readlink(std::string(path)); }, PushString(path));
}

int realpath(lua_State* L) {
  const char* path = check_path(L, 1);
  return suspend_task<std::string>(
      L, [path] { return fs::realpath(std::string(path)); }, PushString(path));
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
  auto* handle = static_cast<DirectoryHandle*>(luaL_checkudata(L, 1, kDirectoryType));
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
  const luaL_Reg methods[] = {{"read", read},    {"read_at", read_at},   {"lines", lines},      {"chunks", chunks},
                              {"write", write},  {"write_at", write_at}, {"seek", seek},        {"sync", sync},
                              {"flush", flush},  {"truncate", truncate}, {"stat", stat_method}, {"close", close},
                              {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", file_to_string}, {"__gc", collect_file}, {nullptr, nullptr}};
  define_type(L, kFileType, methods, meta);
  const luaL_Reg directory_meta[] = {{"__gc", collect_directory}, {nullptr, nullptr}};
  define_type(L, kDirectoryType, nullptr, directory_meta);
  const luaL_Reg functions[] = {
      {"open", open},         {"read", read_file}, {"write", write_file}, {"stat", stat},
      {"lstat", lstat},       {"exists", exists},  {"rename", rename},    {"remove", remove},
      {"rmdir", rmdir},       {"mkdir", mkdir},    {"symlink", symlink},  {"readlink", readlink},
      {"realpath", realpath}, {"dir", dir},        {"list", list},        {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

}  // namespace evlua::lua
