// Locks of the files of evlua.fs, and room for what is to be written to them.
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "core/io_await.h"
#include "fs/pooled.h"
#include "lua/bridge.h"
#include "lua/file_handle.h"
#include "lua/fs_values.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

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

Task<Result<void>> allocate_file(FileHandle& handle, std::int64_t offset, std::int64_t size) {
  const FileInUse guard(handle);
  Result<void> done = co_await fs::pooled([&handle, offset, size] {
    int error = EINTR;
    while (error == EINTR) error = ::fallocate(handle.file.fd(), 0, offset, size) == 0 ? 0 : errno;
    return error;
  });
  co_return done;
}

}  // namespace

/// lock([options])
int file_lock(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  LockRange range;
  LockKind kind = LockKind::exclusive;
  Instant deadline = kNever;
  if (check_options(L, 2, {"shared", "timeout", "offset", "length"})) {
    range = lock_range(L, 2);
    if (option_flag(L, 2, "shared", false)) kind = LockKind::shared;
    deadline = option_deadline(L, 2);
  }
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [=, &handle] { return lock_file(handle, range, kind, deadline); }, PushTrue("lock"));
}

/// unlock([options])
int file_unlock(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  LockRange range;
  if (check_options(L, 2, {"offset", "length"})) range = lock_range(L, 2);
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [=, &handle] { return lock_file(handle, range, LockKind::none, kNever); }, PushTrue("unlock"));
}

/// allocate(size[, offset])
int file_allocate(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const lua_Integer size = check_range(L, 2, 1, std::numeric_limits<lua_Integer>::max());
  const lua_Integer offset = luaL_optinteger(L, 3, 0);
  luaL_argcheck(L, offset >= 0, 3, "must not be negative");
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return suspend_task<void>(
      L, [&handle, offset, size] { return allocate_file(handle, offset, size); }, PushTrue("allocate"));
}

}  // namespace evlua::lua
