// The io library. Behaviour, results and messages are those of stock Lua 5.3; what waits suspends the calling coroutine
// only. In functions that cannot be suspended (called from a finalizer, or from a C function that is not prepared for
// it) it blocks, as there.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>

#include "lua/io_handle.h"
#include "lua/modules.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

/// Stock functions, for handles that C modules have made.
struct StockMethods {
  lua_CFunction close = nullptr;
  lua_CFunction flush = nullptr;
  lua_CFunction lines = nullptr;
  lua_CFunction read = nullptr;
  lua_CFunction seek = nullptr;
  lua_CFunction setvbuf = nullptr;
  lua_CFunction write = nullptr;
  lua_CFunction collect = nullptr;
  lua_CFunction to_string = nullptr;
};
StockMethods stock;

int open_flags(const char* mode) noexcept {
  const bool update = std::strchr(mode, '+') != nullptr;
  switch (*mode) {
    case 'r': return update ? O_RDWR : O_RDONLY;
    case 'w': return (update ? O_RDWR : O_WRONLY) | O_CREAT | O_TRUNC;
    default: return (update ? O_RDWR : O_WRONLY) | O_CREAT | O_APPEND;
  }
}

bool is_mode(const char* mode) noexcept {
  if (*mode == '\0' || std::strchr("rwa", *mode++) == nullptr) return false;
  if (*mode == '+') ++mode;
  return std::strspn(mode, "b") == std::strlen(mode);
}

// -- opening --------------------------------------------------------------------------------------------------------

/// open(2), in whichever way is possible: a descriptor, or a negated errno; or, when it yields, what `next` returns.
struct Opening {
  const char* path;
  int flags;
};

int open_now(const Opening& what) noexcept {
  while (true) {
    const int fd = ::open(what.path, what.flags | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EINTR) return fd >= 0 ? fd : -errno;
  }
}

OpArgs open_args(const Opening& what) noexcept { return OpArgs{.open = {what.path, what.flags, 0666}}; }

/// The handle on top becomes that of the file.
void opened(lua_State* L, int fd, const char* mode) {
  open_stream(L, open_handle(L, fd, mode), mode);
  // As fopen does for "a"; with "a+" reading starts at the beginning.
  if (*mode == 'a' && std::strchr(mode, '+') == nullptr) (void)::lseek(fd, 0, SEEK_END);
}

int finish_open(lua_State* L, int fd) {
  if (fd < 0) return push_wait_errno(L, -fd, lua_tostring(L, 1));
  opened(L, fd, luaL_optstring(L, 2, "r"));
  return 1;
}

int continue_open(lua_State* L, int, lua_KContext) { return finish_open(L, wait_result(L)); }

int io_open(lua_State* L) {
  const char* path = luaL_checkstring(L, 1);
  const char* mode = luaL_optstring(L, 2, "r");
  luaL_argcheck(L, is_mode(mode), 2, "invalid mode");
  const Opening what{path, open_flags(mode)};
  lua_settop(L, 2);
  push_closed_handle(L);
  if (!can_wait(L)) return finish_open(L, open_now(what));
  return wait_and<ResultWait>(L, continue_open, 0, OpCode::open, AT_FDCWD, open_args(what));
}

int finish_tmpfile(lua_State* L, int fd) {
  if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -ENOENT) {  // a file system that has no files without a name
    char name[] = P_tmpdir "/lua_XXXXXX";
    fd = ::mkostemp(name, O_CLOEXEC);
    fd = fd < 0 ? -errno : fd;
    if (fd >= 0) (void)::unlink(name);
  }
  if (fd < 0) return push_wait_errno(L, -fd);
  opened(L, fd, "w+");
  return 1;
}

int continue_tmpfile(lua_State* L, int, lua_KContext) { return finish_tmpfile(L, wait_result(L)); }

int io_tmpfile(lua_State* L) {
  push_closed_handle(L);
  const OpArgs args{.open = {P_tmpdir, O_RDWR | O_TMPFILE | O_EXCL, 0600}};
  if (!can_wait(L)) {
    const int fd = ::open(P_tmpdir, O_RDWR | O_TMPFILE | O_EXCL | O_CLOEXEC, 0600);
    return finish_tmpfile(L, fd < 0 ? -errno : fd);
  }
  return wait_and<ResultWait>(L, continue_tmpfile, 0, OpCode::open, AT_FDCWD, args);
}

int io_type(lua_State* L) {
  luaL_checkany(L, 1);
  const auto* stream = static_cast<const luaL_Stream*>(luaL_testudata(L, 1, LUA_FILEHANDLE));
  if (stream == nullptr) {
    lua_pushnil(L);
  } else {
    lua_pushstring(L, stream->closef == nullptr ? "closed file" : "file");
  }
  return 1;
}

// -- default files --------------------------------------------------------------------------------------------------

/// Pushes the default file; raises when it is closed. Null: it is a C module's.
IoHandle* push_default(lua_State* L, const char* key) {
  lua_getfield(L, LUA_REGISTRYINDEX, key);
  IoHandle* handle = check_handle(L, -1);
  const auto* stream = static_cast<const luaL_Stream*>(lua_touserdata(L, -1));
  if (stream->closef == nullptr) luaL_error(L, "standard %s file is closed", key + std::strlen("_IO_"));
  return handle;
}

int finish_default(lua_State* L, int fd, bool input) {
  if (fd < 0) return luaL_error(L, "cannot open file '%s' (%s)", lua_tostring(L, 1), std::strerror(-fd));
  opened(L, fd, input ? "r" : "w");
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, input ? kInputKey : kOutputKey);
  return 1;
}

int continue_default(lua_State* L, int, lua_KContext input) { return finish_default(L, wait_result(L), input != 0); }

int set_default(lua_State* L, bool input) {
  const char* key = input ? kInputKey : kOutputKey;
  if (lua_isnoneornil(L, 1)) {
    lua_getfield(L, LUA_REGISTRYINDEX, key);
    return 1;
  }
  const char* path = lua_tostring(L, 1);
  if (path != nullptr) {
    const Opening what{path, open_flags(input ? "r" : "w")};
    push_closed_handle(L);
    if (!can_wait(L)) return finish_default(L, open_now(what), input);
    return wait_and<ResultWait>(L, continue_default, input ? 1 : 0, OpCode::open, AT_FDCWD, open_args(what));
  }
  (void)check_handle(L, 1);
  if (static_cast<luaL_Stream*>(lua_touserdata(L, 1))->closef == nullptr) {
    return luaL_error(L, "attempt to use a closed file");
  }
  lua_pushvalue(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, key);
  lua_pushvalue(L, 1);
  return 1;
}

int io_input(lua_State* L) { return set_default(L, true); }
int io_output(lua_State* L) { return set_default(L, false); }

// -- reading --------------------------------------------------------------------------------------------------------

int file_read(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.read(L);
  (void)open_file_of(L, *handle);
  return read_formats(L, 2, lua_gettop(L) - 1);
}

int io_read(lua_State* L) {
  if (push_default(L, kInputKey) == nullptr) {
    lua_insert(L, 1);
    return stock.read(L);
  }
  return read_formats(L, 1, lua_gettop(L) - 1);
}

constexpr int kLinesArgumentsMax = 250;

int ended(lua_State* L, int, lua_KContext) {
  (void)L;
  return 0;
}

/// Upvalues: handle, number of formats, whether the file is closed at the end, formats.
int next_line(lua_State* L) {
  const int formats = static_cast<int>(lua_tointeger(L, lua_upvalueindex(2)));
  lua_settop(L, 0);
  luaL_checkstack(L, formats + LUA_MINSTACK, "too many arguments");
  lua_pushvalue(L, lua_upvalueindex(1));
  if (handle_at(L, 1).stream.closef == nullptr) return luaL_error(L, "file is already closed");
  for (int i = 1; i <= formats; ++i) lua_pushvalue(L, lua_upvalueindex(3 + i));
  // Most lines are in the buffer.
  IoFile& file = *handle_at(L, 1).file;
  if (formats == 0 && file.filling == nullptr) {
    const std::string_view there = file.input.view();
    const std::size_t size = there.find('\n');
    if (size != std::string_view::npos) {
      file.searched = 0;
      file.input.take(size + 1);  // before the string is made: a finalizer may read on, or close
      lua_pushlstring(L, there.data(), size);
      return 1;
    }
  }
  return read_formats(L, 2, formats, true);
}

/// Stack: the handle, formats.
int push_lines(lua_State* L, bool closes) {
  const int formats = lua_gettop(L) - 1;
  luaL_argcheck(L, formats <= kLinesArgumentsMax, kLinesArgumentsMax + 2, "too many arguments");
  lua_pushinteger(L, formats);
  lua_pushboolean(L, closes);
  lua_rotate(L, 2, 2);
  lua_pushcclosure(L, next_line, 3 + formats);
  return 1;
}

int file_lines(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.lines(L);
  (void)open_file_of(L, *handle);
  return push_lines(L, false);
}

int finish_lines(lua_State* L, int fd) {
  if (fd < 0) return luaL_error(L, "cannot open file '%s' (%s)", lua_tostring(L, 1), std::strerror(-fd));
  opened(L, fd, "r");
  lua_replace(L, 1);
  return push_lines(L, true);
}

int continue_lines(lua_State* L, int, lua_KContext) { return finish_lines(L, wait_result(L)); }

int io_lines(lua_State* L) {
  if (lua_isnone(L, 1)) lua_pushnil(L);
  if (lua_isnil(L, 1)) {
    lua_getfield(L, LUA_REGISTRYINDEX, kInputKey);
    lua_replace(L, 1);
    return file_lines(L);
  }
  const Opening what{luaL_checkstring(L, 1), O_RDONLY};
  push_closed_handle(L);
  if (!can_wait(L)) return finish_lines(L, open_now(what));
  return wait_and<ResultWait>(L, continue_lines, 0, OpCode::open, AT_FDCWD, open_args(what));
}

// -- writing --------------------------------------------------------------------------------------------------------

int file_write(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.write(L);
  (void)open_file_of(L, *handle);
  lua_pushvalue(L, 1);
  return write_values(L, 2);
}

int io_write(lua_State* L) {
  if (push_default(L, kOutputKey) == nullptr) {
    lua_insert(L, 1);
    return stock.write(L);
  }
  return write_values(L, 1);
}

int file_flush(lua_State* L) {
  if (check_handle(L, 1) == nullptr) return stock.flush(L);
  return flush_handle(L);
}

int io_flush(lua_State* L) {
  lua_settop(L, 0);
  if (push_default(L, kOutputKey) == nullptr) return stock.flush(L);
  return flush_handle(L);
}

int file_setvbuf(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.setvbuf(L);
  IoFile& file = open_file_of(L, *handle);
  static const char* const names[] = {"no", "full", "line", nullptr};
  static const IoFile::Buffering kinds[] = {IoFile::Buffering::none, IoFile::Buffering::full, IoFile::Buffering::line};
  const int kind = luaL_checkoption(L, 2, nullptr, names);
  const lua_Integer size = luaL_optinteger(L, 3, static_cast<lua_Integer>(IoFile::kBufferBytes));
  file.buffering = kinds[kind];
  file.buffer_bytes = size < 1 ? 1 : std::min(static_cast<std::size_t>(size), IoFile::kBehindMax);
  lua_pushboolean(L, 1);
  return 1;
}

// -- seek -----------------------------------------------------------------------------------------------------------

/// Moves within the buffer where that is possible.
int seek_now(lua_State* L, IoFile& file, int whence, lua_Integer offset) {
  const auto ahead = static_cast<lua_Integer>(file.input.view().size());
  if (whence == SEEK_CUR && offset >= 0 && offset <= ahead) {
    file.input.take(static_cast<std::size_t>(offset));
    file.searched = 0;
    const off_t position = ::lseek(file.fd, 0, SEEK_CUR);
    if (position < 0) return push_errno(L, errno);
    lua_pushinteger(L, position - (ahead - offset));
    return 1;
  }
  lua_Integer target = offset;
  if (whence == SEEK_CUR && __builtin_sub_overflow(offset, ahead, &target)) return push_errno(L, EINVAL);
  const off_t position = ::lseek(file.fd, target, whence);
  if (position < 0) return push_errno(L, errno);
  file.input.clear();
  file.searched = 0;
  lua_pushinteger(L, position);
  return 1;
}

struct SeekCall {
  int whence;
  lua_Integer offset;
};

SeekCall seek_arguments(lua_State* L) {
  static const int kinds[] = {SEEK_SET, SEEK_CUR, SEEK_END};
  static const char* const names[] = {"set", "cur", "end", nullptr};
  const int kind = luaL_checkoption(L, 2, "cur", names);
  return {kinds[kind], luaL_optinteger(L, 3, 0)};
}

int seek_flushed(lua_State* L);

int continue_seek(lua_State* L, int, lua_KContext) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  (void)open_file_of(L, handle_at(L, 1));
  return seek_flushed(L);
}

int seek_flushed(lua_State* L) {
  IoFile& file = *handle_at(L, 1).file;
  const SeekCall call = seek_arguments(L);
  if (const int error = file.take_error(); error != 0) return push_errno(L, error);
  if (file.has_output()) {
    file.start_writing();
    if (can_wait(L) && file.writing()) {
      return wait_and<FlushWait>(L, continue_seek, 0, file, file.appended_total());
    }
    file.write_now();
  }
  if (const int error = file.take_error(); error != 0) return push_errno(L, error);
  if (file.filling != nullptr) return push_errno(L, file.seekable ? EBUSY : ESPIPE);
  return seek_now(L, file, call.whence, call.offset);
}

int file_seek(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.seek(L);
  (void)open_file_of(L, *handle);
  (void)seek_arguments(L);
  return seek_flushed(L);
}

// -- closing --------------------------------------------------------------------------------------------------------

int file_close(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.close(L);
  return close_handle(L);
}

int io_close(lua_State* L) {
  if (lua_isnone(L, 1)) lua_getfield(L, LUA_REGISTRYINDEX, kOutputKey);
  return file_close(L);
}

int file_collect(lua_State* L) {
  IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.collect(L);
  handle->stream.closef = nullptr;
  IoFile* file = std::exchange(handle->file, nullptr);
  if (file != nullptr && !file->standard) file->files.abandon(*file);
  return 0;
}

int file_to_string(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.to_string(L);
  if (handle->stream.closef == nullptr) {
    lua_pushliteral(L, "file (closed)");
  } else {
    lua_pushfstring(L, "file (%p)", handle->stream.f);
  }
  return 1;
}

// -- the standard files ---------------------------------------------------------------------------------------------

void set_standard(lua_State* L, std::FILE* stream, int fd, const char* mode, const char* key, const char* name) {
  push_closed_handle(L);
  IoFile& file = open_handle(L, fd, mode);
  file.standard = true;
  handle_at(L, -1).stream.f = stream;
  file.look_who_shares();
  if (fd == STDOUT_FILENO) {
    if (::isatty(fd) == 1) file.buffering = IoFile::Buffering::line;
    file.files.out = &file;
  }
  if (fd == STDERR_FILENO) {
    file.buffering = IoFile::Buffering::none;
    file.files.err = &file;
  }
  if (key != nullptr) {
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, key);
  }
  lua_setfield(L, -2, name);
}

lua_CFunction field_function(lua_State* L, const char* name) {
  lua_getfield(L, -1, name);
  lua_CFunction function = lua_tocfunction(L, -1);
  lua_pop(L, 1);
  return function;
}

/// Takes the functions of the metatable on top.
StockMethods methods_of(lua_State* L) {
  return {field_function(L, "close"), field_function(L, "flush"), field_function(L, "lines"),
          field_function(L, "read"),  field_function(L, "seek"),  field_function(L, "setvbuf"),
          field_function(L, "write"), field_function(L, "__gc"),  field_function(L, "__tostring")};
}

}  // namespace

int return_line(lua_State* L, int results) {
  if (lua_toboolean(L, -results) != 0) return results;
  if (results > 1) return luaL_error(L, "%s", lua_tostring(L, -results + 1));
  if (lua_toboolean(L, lua_upvalueindex(3)) == 0) return 0;
  lua_settop(L, 1);
  lua_pushcfunction(L, close_handle);
  lua_insert(L, 1);
  lua_callk(L, 1, 0, 0, ended);
  return 0;
}

int open_io(lua_State* L) {
  luaL_getmetatable(L, LUA_FILEHANDLE);
  static std::once_flag once;
  const StockMethods found = methods_of(L);
  std::call_once(once, [&] { stock = found; });
  const luaL_Reg methods[] = {{"close", file_close}, {"flush", file_flush},  {"lines", file_lines},
                              {"read", file_read},   {"seek", file_seek},    {"setvbuf", file_setvbuf},
                              {"write", file_write}, {"__gc", file_collect}, {"__tostring", file_to_string},
                              {nullptr, nullptr}};
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 1);
  const luaL_Reg functions[] = {{"close", io_close}, {"flush", io_flush},     {"input", io_input},
                                {"lines", io_lines}, {"open", io_open},       {"output", io_output},
                                {"read", io_read},   {"tmpfile", io_tmpfile}, {"type", io_type},
                                {"write", io_write}, {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
  set_standard(L, stdin, STDIN_FILENO, "r", kInputKey, "stdin");
  set_standard(L, stdout, STDOUT_FILENO, "w", kOutputKey, "stdout");
  set_standard(L, stderr, STDERR_FILENO, "w", nullptr, "stderr");
  return 0;
}

}  // namespace evlua::lua
