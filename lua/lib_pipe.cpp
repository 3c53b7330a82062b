// evlua.pipe between streams and files. For other objects see lib/evlua.lua.
#include <lua.hpp>

#include "lua/bridge.h"
#include "lua/modules.h"
#include "lua/net_values.h"
#include "lua/stack.h"
#include "lua/transfer.h"

namespace evlua::lua {

namespace {

TransferEnd to_end(lua_State* L, int index) {
  TransferEnd end;
  end.stream = to_stream(L, index);
  if (end.stream == nullptr) end.file = to_file_handle(L, index);
  return end;
}

bool is_end(const TransferEnd& end) noexcept { return end.stream != nullptr || end.file != nullptr; }

/// Pushes the failure of a file that cannot be used now.
bool refuse(lua_State* L, const TransferEnd& end, bool is_target) {
  if (end.file == nullptr) return false;
  const bool is_fifo_target = is_target && end.file->position < 0;  // which is read and written at the same time
  if (end.file->closed) {
    push_failure(L, "file is closed", "EBADF");
  } else if (end.file->in_sequence && !is_fifo_target) {
    push_failure(L, "another task is reading or writing at the position of this file", "EBUSY");
  } else {
    return false;
  }
  lua_pushinteger(L, 0);
  return true;
}

/// bytes; or nil, message, code, bytes
struct PushTransferred {
  const FileHandle* to;

  static const char* subject() noexcept { return nullptr; }
  int operator()(lua_State* L, const Transferred& done) const {
    if (done.unaligned > 0) {
      (void)push_unaligned(L, *to, done.unaligned, to->tell());
    } else if (done.error) {
      (void)push_wait_failure(L, *done.error);
    }
    lua_pushinteger(L, static_cast<lua_Integer>(done.bytes));
    return done.error ? 4 : 1;
  }
};

Task<Result<Transferred>> transfer(TransferEnd from, TransferEnd to, std::uint64_t count, Instant deadline) {
  Transfer work(from, to, count, deadline);
  const Transferred done = co_await work.run();
  co_return done;
}

}  // namespace

/// pipe(from, to, count, timeout) -> as evlua.pipe, or false where one of them is neither a stream nor a file
int pipe_bytes(lua_State* L) {
  const TransferEnd from = to_end(L, 1);
  const TransferEnd to = to_end(L, 2);
  if (!is_end(from) || !is_end(to)) {
    lua_pushboolean(L, 0);
    return 1;
  }
  const std::uint64_t count =
      lua_isnil(L, 3) ? Transfer::kNoLimit : static_cast<std::uint64_t>(luaL_checkinteger(L, 3));
  const Instant deadline = check_timeout(L, 4);
  if (refuse(L, from, false) || refuse(L, to, true)) return 4;
  if (from.file != nullptr && from.file == to.file) return luaL_argerror(L, 2, "the same file as the first");
  return suspend_task<Transferred>(
      L, [=] { return transfer(from, to, count, deadline); }, PushTransferred{to.file});
}

}  // namespace evlua::lua
