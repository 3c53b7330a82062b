// The io library. Behaviour, results and messages are those of stock Lua 5.3; what waits suspends the calling coroutine
// only. In functions that cannot be suspended (called from a finalizer, or from a C function that is not prepared for
// it) it blocks, as there.
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
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

int close_handle(lua_State* L);

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

int continue_write(lua_State* L, int, lua_KContext handle);

/// After the values are in the buffer: waits while the program is far ahead. The handle is on top.
int settle_write(lua_State* L, IoFile& file) {
  if (const int error = file.take_error(); error != 0) return push_errno(L, error);
  const std::uint64_t behind = file.appended_total() - file.written_total();
  // Others may read at once what was written to a file that is not buffered.
  const bool at_once = !file.standard && (file.buffering == IoFile::Buffering::none ||
                                          (file.buffering == IoFile::Buffering::line && file.writing()));
  const std::uint64_t allowed = at_once ? 0 : IoFile::kBehindMax;
  if (behind <= allowed) return 1;
  if (can_wait(L) && file.writing()) {
    return wait_and<FlushWait>(L, continue_write, lua_gettop(L), file, file.appended_total() - allowed / 2);
  }
  if (file.writing()) return 1;  // goes on when we have returned
  file.write_now();
  if (const int error = file.take_error(); error != 0) return push_errno(L, error);
  return 1;
}

int continue_write(lua_State* L, int, lua_KContext handle) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  lua_settop(L, static_cast<int>(handle));
  const IoHandle& written = handle_at(L, -1);
  if (written.stream.closef == nullptr) return 1;
  return settle_write(L, *written.file);
}

struct Appended {
  std::size_t bytes = 0;
  bool has_newline = false;
};

void append_value(lua_State* L, int index, IoFile& file, Appended& sum) {
  if (lua_type(L, index) == LUA_TNUMBER) {
    char text[64];
    const int size = lua_isinteger(L, index) != 0
                         ? std::snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, index))
                         : std::snprintf(text, sizeof text, LUA_NUMBER_FMT, lua_tonumber(L, index));
    file.append({text, static_cast<std::size_t>(size)});
    sum.bytes += static_cast<std::size_t>(size);
    return;
  }
  const std::string_view bytes = check_bytes(L, index);
  file.append(bytes);
  sum.bytes += bytes.size();
  if (file.buffering == IoFile::Buffering::line && bytes.find('\n') != std::string_view::npos) sum.has_newline = true;
}

/// Writes the values from `first` to `last`. The handle is on top.
int append_values(lua_State* L, IoFile& file, int first, int last) {
  Appended sum;
  for (int index = first; index <= last; ++index) append_value(L, index, file, sum);
  file.appended(sum.bytes, sum.has_newline);
  return settle_write(L, file);
}

int write_in_turn(lua_State* L, int first);

int continue_in_turn(lua_State* L, int, lua_KContext first) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  return write_in_turn(L, static_cast<int>(first));
}

/// The handle is on top, the values are from `first` on. Waits for what has to be written before.
int write_in_turn(lua_State* L, int first) {
  IoFile& file = open_file_of(L, handle_at(L, -1));
  if (!file.writable) {
    if (lua_gettop(L) == first) return 1;  // nothing to write
    return push_errno(L, EBADF);
  }
  IoFile* out = file.files.out;
  if (&file == file.files.err && out != nullptr && out->has_output()) {  // output and errors keep their order
    out->start_writing();
    if (out->writing() && can_wait(L)) {
      return wait_and<FlushWait>(L, continue_in_turn, first, *out, out->appended_total());
    }
  }
  if (!file.input.view().empty() && file.seekable && file.filling == nullptr) {  // where the program thinks it is
    (void)::lseek(file.fd, -static_cast<off_t>(file.input.view().size()), SEEK_CUR);
    file.input.clear();
  }
  return append_values(L, file, first, lua_gettop(L) - 1);
}

int file_write(lua_State* L) {
  const IoHandle* handle = check_handle(L, 1);
  if (handle == nullptr) return stock.write(L);
  (void)open_file_of(L, *handle);
  lua_pushvalue(L, 1);
  return write_in_turn(L, 2);
}

int io_write(lua_State* L) {
  if (push_default(L, kOutputKey) == nullptr) {
    lua_insert(L, 1);
    return stock.write(L);
  }
  return write_in_turn(L, 1);
}

int finish_flush(lua_State* L, IoFile& file) {
  const int error = file.take_error();
  if (error != 0) return push_errno(L, error);
  lua_pushboolean(L, 1);
  return 1;
}

int continue_flush(lua_State* L, int, lua_KContext) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  const IoHandle& handle = handle_at(L, 1);
  if (handle.stream.closef == nullptr) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return finish_flush(L, *handle.file);
}

/// The handle is at index 1.
int flush_handle(lua_State* L) {
  IoFile& file = open_file_of(L, handle_at(L, 1));
  lua_settop(L, 1);
  if (file.stream != nullptr) (void)std::fflush(file.stream);
  file.start_writing();
  if (can_wait(L) && file.writing()) {
    return wait_and<FlushWait>(L, continue_flush, 0, file, file.appended_total());
  }
  file.write_now();
  return finish_flush(L, file);
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

// A file that is being closed has no handle any more; the steps find it in their context.
IoFile& file_of(lua_KContext context) noexcept { return *reinterpret_cast<IoFile*>(context); }
lua_KContext context_of(IoFile& file) noexcept { return reinterpret_cast<lua_KContext>(&file); }

int push_closed(lua_State* L, int error) {
  if (error != 0) return push_errno(L, error);
  lua_pushboolean(L, 1);
  return 1;
}

int push_child_result(lua_State* L, IoFile& file) {
  int status = -1;
  const pid_t child = file.child;
  const int child_fd = file.child_fd;
  delete &file;
  if (::waitpid(child, &status, 0) != child) status = -1;
  const int error = errno;
  let_go(child_fd);
  errno = error;
  return luaL_execresult(L, status);
}

int continue_child(lua_State* L, int, lua_KContext context) {
  const int error = wait_result(L);
  if (error == -ECANCELED) {  // nobody waits any more: it is waited for in the background
    IoFile& file = file_of(context);
    file.files.abandon(file);
    return push_wait_errno(L, ECANCELED);
  }
  return push_child_result(L, file_of(context));
}

/// The descriptor is closed; what is left is the program at its other end, and what the call returns.
int finish_close(lua_State* L, IoFile& file, int error) {
  if (file.child_fd < 0) {
    delete &file;
    return push_closed(L, error);
  }
  Fiber* fiber = Vm::of(L).running();
  if (!can_wait(L) || (fiber->cancelled() != OpStop::none && !fiber->shielded())) {
    if (fiber == nullptr || fiber->cancelled() == OpStop::none) return push_child_result(L, file);
    file.files.abandon(file);
    return push_wait_errno(L, ECANCELED);
  }
  return wait_and<ResultWait>(L, continue_child, context_of(file), OpCode::poll, file.child_fd,
                              OpArgs{.poll = {POLLIN}});
}

int continue_close(lua_State* L, int, lua_KContext context) {
  IoFile& file = file_of(context);
  const int closed = wait_result(L);
  file.fd = -1;
  const int error = file.take_error();
  return finish_close(L, file, error != 0 ? error : closed < 0 && closed != -ECANCELED ? -closed : 0);
}

int close_written(lua_State* L, IoFile& file);

int continue_written(lua_State* L, int, lua_KContext context) {
  (void)wait_result(L);
  return close_written(L, file_of(context));
}

/// Waits until all is written and nobody reads; then closes.
int close_written(lua_State* L, IoFile& file) {
  Fiber* fiber = Vm::of(L).running();
  const bool waits = can_wait(L) && (fiber->cancelled() == OpStop::none || fiber->shielded());
  if (!waits && can_wait(L)) {
    file.files.abandon(file);  // in the background
    lua_pushboolean(L, 1);
    return 1;
  }
  if (waits && file.writing()) {
    return wait_and<FlushWait>(L, continue_written, context_of(file), file, file.appended_total());
  }
  file.write_now();
  release_stream(std::exchange(file.stream, nullptr));
  if (waits) return wait_and<ResultWait>(L, continue_close, context_of(file), OpCode::close, file.fd, OpArgs{});
  const int fd = std::exchange(file.fd, -1);
  let_go(fd);
  Worker* worker = Worker::current_or_null();
  if (file.child_fd >= 0 && worker != nullptr) worker->offer_work();  // the child may wait for the end of its input
  return finish_close(L, file, file.take_error());
}

int continue_unread(lua_State* L, int, lua_KContext context) {
  IoFile& file = file_of(context);
  const int waited = wait_result(L);
  file.close_waits = false;
  if (file.filling != nullptr) return push_wait_errno(L, -waited);  // cancelled; the reader gives the file up
  file.start_writing();
  return close_written(L, file);
}

/// Ends the read of another task, then closes.
int close_unread(lua_State* L, IoFile& file) {
  stop_filling(file);
  const Fiber* fiber = Vm::of(L).running();
  if (can_wait(L) && (fiber->cancelled() == OpStop::none || fiber->shielded())) {
    file.close_waits = true;
    return wait_for_reader(L, continue_unread, context_of(file), file);
  }
  lua_pushboolean(L, 1);  // the file goes when the read has ended
  return 1;
}

/// The handle is at index 1.
int close_handle(lua_State* L) {
  IoHandle& handle = handle_at(L, 1);
  IoFile& file = open_file_of(L, handle);
  if (file.standard) {
    lua_pushnil(L);
    lua_pushliteral(L, "cannot close standard file");
    return 2;
  }
  handle.stream.closef = nullptr;
  handle.stream.f = nullptr;
  handle.file = nullptr;
  file.closed = true;
  lua_settop(L, 1);
  if (file.filling != nullptr) return close_unread(L, file);
  file.start_writing();
  return close_written(L, file);
}

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
