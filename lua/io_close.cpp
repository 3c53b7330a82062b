// Closing of the io library: what was written goes first, the read in flight ends, and then the program at the other
// end of a pipe.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "lua/io_handle.h"

namespace evlua::lua {

namespace {

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

}  // namespace

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

}  // namespace evlua::lua
