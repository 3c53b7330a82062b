// Open files, as evlua.fs gives them to Lua: a position, and what was read ahead for lines.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "core/frame_pool.h"
#include "core/io_await.h"
#include "fs/file.h"
#include "fs/pooled.h"
#include "lua/file_handle.h"
#include "lua/fs_values.h"
#include "lua/iterate.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kFileType = "evlua.file";
constexpr lua_Integer kReadMax = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kPiece = 65536;
constexpr std::size_t kDirectReadMax = std::size_t{1} << 20;

FileHandle& check_file(lua_State* L) { return *static_cast<FileHandle*>(check_object(L, 1, kFileType)); }

/// Pushes the failure of a file that is closed, or whose position another task is using; the caller returns 3.
bool refuse(lua_State* L, const FileHandle& handle, FileUse use) {
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

}  // namespace

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

// -- files: reading -------------------------------------------------------------------------------------------------

/// One read straight from the fiber's slot: no task, no allocation but the bytes themselves.
struct ReadWait : OpWait {
  ReadWait(FileHandle& from, std::size_t size, std::int64_t offset, bool sequential, Instant until)
      : OpWait(OpCode::read, from.file.fd(), until),
        handle(from),
        capacity(size),
        moves(sequential),
        guard(from, sequential ? FileUse::in_sequence : FileUse::anywhere) {
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
  FileInUse guard;
};

struct PushDirect : About {
  FileHandle* handle;
  bool moves;
  PushDirect(FileHandle& from, bool sequential) noexcept : handle(&from), moves(sequential) {}
  int operator()(lua_State* L, const std::string& bytes) const {
    if (bytes.empty()) return push_failure(L, Error{static_cast<int>(Errc::end_of_file), ErrorDomain::runtime});
    if (moves) handle->position += static_cast<std::int64_t>(bytes.size());
    lua_pushlstring(L, bytes.data(), bytes.size());
    return 1;
  }
};

Task<Result<std::string>> read_direct(FileHandle& handle, std::size_t size, std::int64_t offset, bool sequential,
                                      Instant deadline) {
  const FileInUse guard(handle, sequential ? FileUse::in_sequence : FileUse::anywhere);
  std::string bytes(std::min(size, kDirectReadMax), '\0');
  const Result<std::size_t> got = co_await handle.file.read_at(bytes.data(), bytes.size(), offset, deadline);
  if (!got) co_return fail(got.error());
  bytes.resize(*got);
  co_return bytes;
}

int read_piece(lua_State* L, FileHandle& handle, std::size_t size, std::int64_t offset, bool sequential,
               Instant deadline) {
  if (!handle.file.is_direct()) return suspend<ReadWait>(L, handle, size, offset, sequential, deadline);
  return suspend_task<std::string>(
      L, [=, &handle] { return read_direct(handle, size, offset, sequential, deadline); },
      PushDirect(handle, sequential));
}

/// read_at(n, offset[, options])
int read_at(lua_State* L) {
  FileHandle& handle = check_file(L);
  const auto size = static_cast<std::size_t>(check_range(L, 2, 1, kReadMax));
  const lua_Integer offset = check_range(L, 3, 0, std::numeric_limits<lua_Integer>::max());
  const Instant deadline = deadline_option(L, 4);
  if (refuse(L, handle, FileUse::anywhere)) return 3;
  return read_piece(L, handle, size, offset, false, deadline);
}

Task<Result<std::size_t>> read_ahead(FileHandle& handle, Instant deadline) {
  char* room = handle.ahead.grow(kPiece);
  const Result<std::size_t> got = co_await handle.file.read_at(room, kPiece, handle.position, deadline);
  handle.ahead.keep(got ? *got : 0);
  if (got && handle.position >= 0) handle.position += static_cast<std::int64_t>(*got);
  co_return got;
}

/// The bytes of the line at the front with its end, 0 when it has no end yet; `searched` bytes are known to have none.
std::size_t line_size(const FileHandle& handle, std::size_t searched = 0) noexcept {
  const std::size_t at = handle.ahead.view().find('\n', searched);
  return at == std::string_view::npos ? 0 : at + 1;
}

/// Reads until a line is there, or the last bytes of a file that does not end with one.
Task<Result<void>> read_line(FileHandle& handle, Instant deadline) {
  const FileInUse guard(handle, FileUse::in_sequence);
  std::size_t searched = 0;
  while (line_size(handle, searched) == 0) {
    searched = handle.ahead.view().size();
    const Result<std::size_t> got = co_await read_ahead(handle, deadline);
    if (!got) co_return fail(got.error());
    if (*got == 0 && searched == 0) co_return fail(Errc::end_of_file, OpCode::read);
    if (*got == 0) break;
  }
  co_return Result<void>();
}

struct PushLine : About {
  FileHandle* handle;
  bool keep_end;
  PushLine(FileHandle& from, bool keep) noexcept : handle(&from), keep_end(keep) {}
  int operator()(lua_State* L) const { return take(L, line_size(*handle)); }
  /// The line with its end has `whole` bytes; 0: it is what is there.
  int take(lua_State* L, std::size_t whole) const {
    const std::size_t size = whole == 0 ? handle->ahead.view().size() : whole;
    lua_pushlstring(L, handle->ahead.view().data(), whole == 0 || keep_end ? size : size - 1);
    handle->ahead.take(size);
    return 1;
  }
};

Task<Result<void>> read_rest(FileHandle& handle, Instant deadline) {
  const FileInUse guard(handle, FileUse::in_sequence);
  while (true) {
    const Result<std::size_t> got = co_await read_ahead(handle, deadline);
    if (!got) co_return fail(got.error());
    if (*got == 0) co_return Result<void>();
  }
}

struct PushRest : About {
  FileHandle* handle;
  explicit PushRest(FileHandle& from) noexcept : handle(&from) {}
  int operator()(lua_State* L) const {
    lua_pushlstring(L, handle->ahead.view().data(), handle->ahead.view().size());
    handle->ahead.clear();
    return 1;
  }
};

/// The format at index 2: 'l', 'L' or 'a', or 0 where it is a size or nothing. Raises for other strings.
char read_format(lua_State* L) {
  if (lua_type(L, 2) != LUA_TSTRING) return 0;
  const char* text = lua_tostring(L, 2);
  const char format = *text == '*' ? text[1] : *text;
  if (format == 'l' || format == 'L' || format == 'a') return format;
  luaL_argcheck(L, lua_isnumber(L, 2) != 0, 2, "a number of bytes, \"l\", \"L\" or \"a\" expected");
  return 0;
}

/// read([n | "l" | "L" | "a"[, options]])
int read(lua_State* L) {
  FileHandle& handle = check_file(L);
  const Instant deadline = deadline_option(L, 3);
  if (const char format = read_format(L); format != 0) {
    if (refuse(L, handle, FileUse::in_sequence)) return 3;
    if (format == 'a') {
      return suspend_task<void>(
          L, [&handle, deadline] { return read_rest(handle, deadline); }, PushRest(handle));
    }
    const PushLine push(handle, format == 'L');
    if (const std::size_t whole = line_size(handle); whole != 0) return push.take(L, whole);
    return suspend_task<void>(
        L, [&handle, deadline] { return read_line(handle, deadline); }, push);
  }
  const auto size =
      static_cast<std::size_t>(lua_isnoneornil(L, 2) ? lua_Integer{kPiece} : check_range(L, 2, 1, kReadMax));
  if (refuse(L, handle, FileUse::in_sequence)) return 3;
  if (const std::string_view there = handle.ahead.view(); !there.empty()) {
    const std::size_t taken = std::min(size, there.size());
    lua_pushlstring(L, there.data(), taken);
    handle.ahead.take(taken);
    return 1;
  }
  return read_piece(L, handle, size, handle.position, true, deadline);
}

/// for line in file:lines([format]) do ... end
int lines(lua_State* L) {
  (void)check_file(L);
  check_lines_argument(L);
  return push_iterator(L, read);
}

/// for chunk in file:chunks([n]) do ... end
int chunks(lua_State* L) {
  (void)check_file(L);
  check_chunk_size(L, kPiece);
  return push_iterator(L, read);
}

// -- files: writing and the rest ------------------------------------------------------------------------------------

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
  FileHandle& handle = check_file(L);
  const std::string_view bytes = check_bytes(L, 2);
  const Instant deadline = deadline_option(L, 3);
  if (refuse(L, handle, use_of_write(handle))) return 3;
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
  FileHandle& handle = check_file(L);
  const std::string_view bytes = check_bytes(L, 2);
  const lua_Integer offset = check_range(L, 3, 0, std::numeric_limits<lua_Integer>::max());
  const Instant deadline = deadline_option(L, 4);
  if (refuse(L, handle, FileUse::anywhere)) return 3;
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
  FileHandle& handle = check_file(L);
  const bool has_options = check_options(L, 2, {"data_only", "timeout"});
  const bool data_only = has_options && option_flag(L, 2, "data_only", false);
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  if (refuse(L, handle, FileUse::anywhere)) return 3;
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
  FileHandle& handle = check_file(L);
  const lua_Integer size =
      lua_isnoneornil(L, 2) ? handle.tell() : check_range(L, 2, 0, std::numeric_limits<lua_Integer>::max());
  if (refuse(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [&handle, size] { return truncate_file(handle, size); }, PushTrue());
}

Task<Result<fs::FileInfo>> stat_file(FileHandle& handle) {
  const FileInUse guard(handle);
  Result<fs::FileInfo> info = co_await fs::stat(handle.file.fd());
  co_return info;
}

int stat_method(lua_State* L) {
  FileHandle& handle = check_file(L);
  if (refuse(L, handle, FileUse::anywhere)) return 3;
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
  FileHandle& handle = check_file(L);
  static const char* const names[] = {"set", "cur", "end", nullptr};
  const int whence = luaL_checkoption(L, 2, "cur", names);
  const lua_Integer offset = luaL_optinteger(L, 3, 0);
  if (refuse(L, handle, FileUse::in_sequence)) return 3;
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

// -- files: locks and room ------------------------------------------------------------------------------------------

constexpr Duration kFirstLockPause = kMillisecond;
constexpr Duration kLockPauseMax = 20 * kMillisecond;

/// What is locked: the whole file by flock(2), or a range of it for this open file (F_OFD_SETLK).
struct LockRange {
  bool whole = true;
  std::int64_t offset = 0;
  std::int64_t length = 0;  // 0: up to the end, wherever that will be
};

enum class LockKind : std::uint8_t { shared, exclusive, none };

/// Without waiting: 0 or an errno.
int change_lock(int fd, const LockRange& range, LockKind kind) noexcept {
  if (range.whole) {
    const int how = kind == LockKind::none ? LOCK_UN : kind == LockKind::shared ? LOCK_SH : LOCK_EX;
    return ::flock(fd, how | LOCK_NB) == 0 ? 0 : errno;
  }
  struct flock asked {};
  asked.l_type = kind == LockKind::none ? F_UNLCK : kind == LockKind::shared ? F_RDLCK : F_WRLCK;
  asked.l_whence = SEEK_SET;
  asked.l_start = range.offset;
  asked.l_len = range.length;
  if (::fcntl(fd, F_OFD_SETLK, &asked) == 0) return 0;
  return errno == EACCES ? EAGAIN : errno;
}

/// Tries again and again: one who waits in the kernel would hold a thread, and enough of them all threads.
Task<Result<void>> lock_file(FileHandle& handle, LockRange range, LockKind kind, Instant deadline) {
  const FileInUse guard(handle);
  Duration pause = kFirstLockPause;
  while (true) {
    const Result<void> locked =
        co_await fs::pooled([&handle, range, kind] { return change_lock(handle.file.fd(), range, kind); });
    if (locked || !locked.error().is(EWOULDBLOCK)) co_return locked;
    if (handle.closed) co_return fail(ECANCELED);
    const Instant now = monotonic_now();
    if (now >= deadline) co_return fail(ETIMEDOUT);
    const Result<std::int32_t> slept = co_await io::sleep_until(std::min(deadline, deadline_after(now, pause)));
    if (!slept && slept.error().is(ECANCELED)) co_return fail(ECANCELED);
    pause = std::min(pause * 2, kLockPauseMax);
  }
}

constexpr lua_Integer kAbsent = std::numeric_limits<lua_Integer>::min();

/// From the options `offset` and `length` of the table at `index`.
LockRange lock_range(lua_State* L, int index) {
  LockRange range;
  range.offset = option_integer(L, index, "offset", kAbsent);
  range.length = option_integer(L, index, "length", kAbsent);
  range.whole = range.offset == kAbsent && range.length == kAbsent;
  if (range.offset == kAbsent) range.offset = 0;
  if (range.length == kAbsent) range.length = 0;
  luaL_argcheck(L, range.offset >= 0, index, "option 'offset' must not be negative");
  luaL_argcheck(L, range.length >= 0, index, "option 'length' must not be negative");
  luaL_argcheck(L, range.length <= std::numeric_limits<lua_Integer>::max() - range.offset, index,
                "option 'length': the range ends beyond what a file can have");
  return range;
}

/// lock([options])
int lock(lua_State* L) {
  FileHandle& handle = check_file(L);
  LockRange range;
  LockKind kind = LockKind::exclusive;
  Instant deadline = kNever;
  if (check_options(L, 2, {"shared", "timeout", "offset", "length"})) {
    range = lock_range(L, 2);
    if (option_flag(L, 2, "shared", false)) kind = LockKind::shared;
    deadline = option_deadline(L, 2);
  }
  if (refuse(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [=, &handle] { return lock_file(handle, range, kind, deadline); }, PushTrue("lock"));
}

/// unlock([options])
int unlock(lua_State* L) {
  FileHandle& handle = check_file(L);
  LockRange range;
  if (check_options(L, 2, {"offset", "length"})) range = lock_range(L, 2);
  if (refuse(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [=, &handle] { return lock_file(handle, range, LockKind::none, kNever); }, PushTrue("unlock"));
}

Task<Result<void>> allocate_file(FileHandle& handle, std::int64_t offset, std::int64_t size) {
  const FileInUse guard(handle);
  Result<void> done = co_await fs::pooled([&handle, offset, size] {
    int error = EINTR;
    while (error == EINTR) error = ::fallocate(handle.file.fd(), 0, offset, size) == 0 ? 0 : errno;
    return error;
  });
  co_return done;
}

/// allocate(size[, offset])
int allocate(lua_State* L) {
  FileHandle& handle = check_file(L);
  const lua_Integer size = check_range(L, 2, 1, std::numeric_limits<lua_Integer>::max());
  const lua_Integer offset = luaL_optinteger(L, 3, 0);
  luaL_argcheck(L, offset >= 0, 3, "must not be negative");
  if (refuse(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [&handle, offset, size] { return allocate_file(handle, offset, size); }, PushTrue("allocate"));
}

/// alignment() -> what offsets and sizes of writes must be multiples of
int alignment(lua_State* L) {
  lua_pushinteger(L, check_file(L).file.alignment());
  return 1;
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
  const luaL_Reg methods[] = {
      {"read", read},           {"read_at", read_at}, {"lines", lines}, {"chunks", chunks}, {"write", write},
      {"write_at", write_at},   {"seek", seek},       {"sync", sync},   {"flush", flush},   {"truncate", truncate},
      {"stat", stat_method},    {"close", close},     {"lock", lock},   {"unlock", unlock}, {"allocate", allocate},
      {"alignment", alignment}, {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", file_to_string}, {"__gc", collect_file}, {nullptr, nullptr}};
  define_type(L, kFileType, methods, meta);
}

}  // namespace evlua::lua
