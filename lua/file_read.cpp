// Reading of the files of evlua.fs.
#include <algorithm>
#include <limits>
#include <string>

#include "core/frame_pool.h"
#include "fs/file.h"
#include "lua/bridge.h"
#include "lua/file_handle.h"
#include "lua/fs_values.h"
#include "lua/iterate.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

constexpr lua_Integer kReadMax = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kPiece = 65536;
constexpr std::size_t kDirectReadMax = std::size_t{1} << 20;

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

}  // namespace

/// read_at(n, offset[, options])
int file_read_at(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const auto size = static_cast<std::size_t>(check_range(L, 2, 1, kReadMax));
  const lua_Integer offset = check_range(L, 3, 0, std::numeric_limits<lua_Integer>::max());
  const Instant deadline = deadline_option(L, 4);
  if (refuse_file(L, handle, FileUse::anywhere)) return 3;
  return read_piece(L, handle, size, offset, false, deadline);
}

/// read([n | "l" | "L" | "a"[, options]])
int file_read(lua_State* L) {
  FileHandle& handle = check_file_handle(L);
  const Instant deadline = deadline_option(L, 3);
  if (const char format = read_format(L); format != 0) {
    if (refuse_file(L, handle, FileUse::in_sequence)) return 3;
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
  if (refuse_file(L, handle, FileUse::in_sequence)) return 3;
  if (const std::string_view there = handle.ahead.view(); !there.empty()) {
    const std::size_t taken = std::min(size, there.size());
    lua_pushlstring(L, there.data(), taken);
    handle.ahead.take(taken);
    return 1;
  }
  return read_piece(L, handle, size, handle.position, true, deadline);
}

/// for line in file:lines([format]) do ... end
int file_lines(lua_State* L) {
  (void)check_file_handle(L);
  check_lines_argument(L);
  return push_iterator(L, file_read);
}

/// for chunk in file:chunks([n]) do ... end
int file_chunks(lua_State* L) {
  (void)check_file_handle(L);
  check_chunk_size(L, kPiece);
  return push_iterator(L, file_read);
}

}  // namespace evlua::lua
