// Open files, as evlua.fs gives them to Lua: a position, and what was read ahead for lines.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "fs/file.h"
#include "lua/file_handle.h"
#include "lua/fs_values.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kFileType = "evlua.file";

}  // namespace

FileHandle& check_file_handle(lua_State* L) { return *static_cast<FileHandle*>(check_object(L, 1, kFileType)); }

bool refuse_file(lua_State* L, const FileHandle& handle, FileUse use) {
  if (handle.closed) {
    push_failure(L, "file is closed", "EBADF");
  } else if (use == FileUse::in_sequence && handle.in_sequence) {
    push_failure(L, "another task is reading or writing at the position of this file; use read_at and write_at",
                 "EBUSY");
  } else {
    return false;
  }
  return true;
}

void push_file(lua_State* L, fs::File& file) {
  auto* handle = new (lua_newuserdata(L, sizeof(FileHandle))) FileHandle;
  luaL_setmetatable(L, kFileType);
  handle->file = std::move(file);
  if (::lseek(handle->file.fd(), 0, SEEK_CUR) < 0) handle->position = -1;
}

int push_unaligned(lua_State* L, const FileHandle& handle, std::size_t size, std::int64_t offset) {
  const auto unit = static_cast<lua_Integer>(handle.file.alignment());
  const char* message = lua_pushfstring(
      L, "write: this file is open for direct writing, of multiples of %I bytes at multiples of %I: not %I at %I", unit,
      unit, static_cast<lua_Integer>(size), static_cast<lua_Integer>(offset));
  return push_failure(L, message, "EINVAL");
}

void push_received_file(lua_State* L, net::Socket& descriptor, int flags) {
  auto* handle = new (lua_newuserdata(L, sizeof(FileHandle))) FileHandle;
  luaL_setmetatable(L, kFileType);
  handle->file = fs::File(descriptor.release(), (flags & O_APPEND) != 0);
  if ((flags & O_DIRECT) != 0) (void)handle->file.learn_alignment();
  handle->position = ::lseek(handle->file.fd(), 0, SEEK_CUR);
}

namespace {

struct PushFile : About {
  using About::About;
  int operator()(lua_State* L, fs::File& file) const {
    push_file(L, file);
    return 1;
  }
};

// -- writing and the rest ------------------------------------------------------------------------------------

/// A pipe has no position: reading and writing do not meet.
FileUse use_of_write(const FileHandle& handle) noexcept {
  return handle.position < 0 ? FileUse::anywhere : FileUse::in_sequence;
}

Task<Result<void>> write_sequential(FileHandle& handle, std::string_view bytes, Instant deadline) {
  const FileInUse guard(handle, use_of_write(handle));
  handle.drop_ahead();
  const bool at_end = handle.file.appends();
  const Result<void> wrote = co_await handle.file.write_at(bytes, at_end ? -1 : handle.position, deadline);
  if (wrote && handle.position >= 0 && !bytes.empty()) {
    handle.position =
        at_end ? ::lseek(handle.file.fd(), 0, SEEK_CUR) : handle.position + static_cast<std::int64_t>(bytes.size());
  }
  co_return wrote;
}

/// Pushes the failure of a direct write that does not begin and end where it has to.
bool refuse_unaligned(lua_State* L, const FileHandle& handle, std::size_t size, std::int64_t offset) {
  const auto unit = static_cast<lua_Integer>(handle.file.alignment());
  if (offset % unit == 0 && static_cast<lua_Integer>(size) % unit == 0) return false;
  (void)push_unaligned(L, handle, size, offset);
  return true;
}

int write(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const std::string_view bytes = check_bytes(L, 2);
  const Instant deadline = deadline_option(L, 3);
  if (refuse_file(L, handle, use_of_write(handle))) return 3;
  if (handle.file.is_direct() && refuse_unaligned(L, handle, bytes.size(), handle.tell())) return 3;
  return suspend_task<void>(
      L, [&handle, bytes, deadline] { return write_sequential(handle, bytes, deadline); }, PushTrue());
}

Task<Result<void>> write_somewhere(FileHandle& handle, std::string_view bytes, std::int64_t offset, Instant deadline) {
  const FileInUse guard(handle);
  const Result<void> wrote = co_await handle.file.write_at(bytes, offset, deadline);
  if (!handle.in_sequence) handle.drop_ahead();
  co_return wrote;
}

int write_at(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const std::string_view bytes = check_bytes(L, 2);
  const lua_Integer offset = check_range(L, 3, 0, std::numeric_limits<lua_Integer>::max());
  const Instant deadline = deadline_option(L, 4);
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  if (handle.file.is_direct() && refuse_unaligned(L, handle, bytes.size(), offset)) return 3;
  return suspend_task<void>(
      L, [&handle, bytes, offset, deadline] { return write_somewhere(handle, bytes, offset, deadline); }, PushTrue());
}

Task<Result<void>> sync_file(FileHandle& handle, bool data_only, Instant deadline) {
  const FileInUse guard(handle);
  const Result<void> synced = co_await handle.file.sync(data_only, deadline);
  co_return synced;
}

int sync(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const bool has_options = check_options(L, 2, {"data_only", "timeout"});
  const bool data_only = has_options && option_flag(L, 2, "data_only", false);
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [&handle, data_only, deadline] { return sync_file(handle, data_only, deadline); }, PushTrue());
}

Task<Result<void>> truncate_file(FileHandle& handle, std::int64_t size) {
  const FileInUse guard(handle);
  const Result<void> done = co_await handle.file.truncate(size);
  if (!handle.in_sequence) handle.drop_ahead();
  co_return done;
}

int truncate(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const lua_Integer size =
      lua_isnoneornil(L, 2) ? handle.tell() : check_range(L, 2, 0, std::numeric_limits<lua_Integer>::max());
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [&handle, size] { return truncate_file(handle, size); }, PushTrue());
}

Task<Result<fs::FileInfo>> stat_file(FileHandle& handle) {
  const FileInUse guard(handle);
  Result<fs::FileInfo> info = co_await fs::stat(handle.file.fd());
  co_return info;
}

int stat_method(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<fs::FileInfo>(
      L, [&handle] { return stat_file(handle); }, PushInfo());
}

struct PushPosition : About {
  int operator()(lua_State* L, std::int64_t position) const {
    lua_pushinteger(L, position);
    return 1;
  }
};

/// From `begin`; negative where there is no such position.
std::int64_t moved(std::int64_t begin, std::int64_t offset) noexcept {
  return offset > std::numeric_limits<std::int64_t>::max() - begin ? -1 : begin + offset;
}

Task<Result<std::int64_t>> seek_from_end(FileHandle& handle, std::int64_t offset) {
  const FileInUse guard(handle, FileUse::in_sequence);
  const Result<fs::FileInfo> info = co_await fs::stat(handle.file.fd());
  if (!info) co_return fail(info.error());
  const std::int64_t target = moved(static_cast<std::int64_t>(info->size), offset);
  if (target < 0) co_return fail(EINVAL);
  handle.ahead.clear();
  handle.position = target;
  co_return target;
}

/// seek([whence[, offset]]): as Lua's io.
int seek(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  static const char* const names[] = {"set", "cur", "end", nullptr};
  const int whence = luaL_checkoption(L, 2, "cur", names);
  const lua_Integer offset = luaL_optinteger(L, 3, 0);
  if (refuse_file(L, handle, FileUse::in_sequence)) return 3;
  if (handle.position < 0) return push_failure(L, Error{ESPIPE, ErrorDomain::system});
  if (whence == 2) {
    return suspend_task<std::int64_t>(
        L, [&handle, offset] { return seek_from_end(handle, offset); }, PushPosition());
  }
  const std::int64_t target = moved(whence == 0 ? 0 : handle.tell(), offset);
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
  FileHandle& handle = check_file_handle(L);
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

// -- the type ------------------------------------------------------------------------------------------------

/// alignment() -> what offsets and sizes of writes must be multiples of
int alignment(lua_State* L) {
  lua_pushinteger(L, check_file_handle(L).file.alignment());
  return 1;
}

int flush(lua_State* L) {
  (void)check_file_handle(L);  // writes are unbuffered
  lua_pushboolean(L, 1);
  return 1;
}

int file_to_string(lua_State* L) {
  const FileHandle& handle = check_file_handle(L);
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

}  // namespace

/// open(path[, mode[, options]])
int open_file(lua_State* L) {
  const char* path = check_path(L, 1);
  const char* mode = luaL_optstring(L, 2, "r");
  const Result<fs::OpenMode> parsed = fs::parse_mode(mode);
  luaL_argcheck(L, parsed.has_value(), 2, "invalid mode (\"r\", \"w\" or \"a\", then \"+\", \"b\", \"x\")");
  const bool has_options = check_options(L, 3, {"permissions", "timeout", "direct"});
  const auto permissions = has_options ? option_permissions(L, 3).value_or(0666) : mode_t{0666};
  const Instant deadline = has_options ? option_deadline(L, 3) : kNever;
  fs::OpenMode how = *parsed;
  how.direct = has_options && option_flag(L, 3, "direct", false);
  luaL_argcheck(L, !how.direct || !how.append, 3, "option 'direct': not for appending, which begins anywhere");
  return suspend_task<fs::File>(
      L, [=] { return fs::File::open(std::string(path), how, permissions, deadline); }, PushFile(path));
}

FileHandle* to_file_handle(lua_State* L, int index) {
  return static_cast<FileHandle*>(luaL_testudata(L, index, kFileType));
}

const fs::File* to_file(lua_State* L, int index) {
  const FileHandle* handle = to_file_handle(L, index);
  return handle != nullptr && !handle->closed ? &handle->file : nullptr;
}

void define_file_type(lua_State* L) {
  const bool is_there = luaL_getmetatable(L, kFileType) != LUA_TNIL;
  lua_pop(L, 1);
  if (is_there) return;
  const luaL_Reg methods[] = {{"read", file_read},
                              {"read_at", file_read_at},
                              {"lines", file_lines},
                              {"chunks", file_chunks},
                              {"write", write},
                              {"write_at", write_at},
                              {"seek", seek},
                              {"sync", sync},
                              {"flush", flush},
                              {"truncate", truncate},
                              {"stat", stat_method},
                              {"close", close},
                              {"lock", file_lock},
                              {"unlock", file_unlock},
                              {"allocate", file_allocate},
                              {"alignment", alignment},
                              {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", file_to_string}, {"__gc", collect_file}, {nullptr, nullptr}};
  define_type(L, kFileType, methods, meta);
}

}  // namespace evlua::lua
