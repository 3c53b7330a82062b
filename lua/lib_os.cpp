// io.popen and those functions of os that touch files and processes. Behaviour, results and messages are those of stock
// Lua 5.3; see lib_io.cpp for when they block.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "core/io_await.h"
#include "fs/spawn.h"
#include "lua/io_handle.h"
#include "lua/modules.h"

namespace evlua::lua {

namespace {

// -- processes ------------------------------------------------------------------------------------------------------

fs::SpawnOptions shell_command(const char* command) {
  fs::SpawnOptions options;
  options.program = "/bin/sh";
  options.arguments = {"sh", "-c", command};
  return options;
}

/// As much as waitpid and errno tell.
struct Ended {
  int status = -1;
  int error = 0;
};

Ended take_status(const fs::Child& child) noexcept {
  Ended ended;
  while (::waitpid(child.pid, &ended.status, 0) < 0) {
    if (errno == EINTR) continue;
    ended = {-1, errno};
    break;
  }
  return ended;
}

int push_ended(lua_State* L, const Ended& ended) {
  errno = ended.error;
  return luaL_execresult(L, ended.status);
}

/// Who does not wait for the command any more does not want it: it is killed.
Task<Result<Ended>> run_command(std::string command) {
  const Result<fs::Child> child = co_await fs::spawn(shell_command(command.c_str()));
  if (!child) {
    if (child.error().is(ECANCELED)) co_return fail(child.error());
    co_return Ended{-1, child.error().code};
  }
  IoAwait op(OpCode::poll, child->pidfd, OpArgs{.poll = {POLLIN}});
  const Result<std::int32_t> polled = co_await op;
  if (!polled) {
    (void)::syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, nullptr, 0U);
    TaskContext& context = co_await current_context();
    context.cancel = nullptr;
    context.deadline = kNever;
    IoAwait again(OpCode::poll, child->pidfd, OpArgs{.poll = {POLLIN}});
    (void)co_await again;
  }
  const Ended ended = take_status(*child);
  IoAwait closing(OpCode::close, child->pidfd);
  (void)co_await closing;
  if (!polled) co_return fail(polled.error());
  co_return ended;
}

struct PushEnded {
  static const char* subject() noexcept { return nullptr; }
  int operator()(lua_State* L, const Ended& ended) const { return push_ended(L, ended); }
};

int wait_for_command(lua_State* L, int status, lua_KContext) {
  if (status == LUA_YIELD) (void)wait_result(L);
  const char* command = luaL_checkstring(L, 1);
  return suspend_task<Ended>(
      L, [command] { return run_command(command); }, PushEnded());
}

int execute_blocking(lua_State* L, const char* command) {
  Ended ended;
  const Result<fs::Child> child = fs::spawn_blocking(shell_command(command));
  if (child) {
    ended = take_status(*child);
    (void)::close(child->pidfd);
  } else {
    ended.error = child.error().code;
  }
  return push_ended(L, ended);
}

int os_execute(lua_State* L) {
  const char* command = luaL_optstring(L, 1, nullptr);
  if (command == nullptr) {
    lua_pushboolean(L, ::access("/bin/sh", X_OK) == 0);
    return 1;
  }
  if (!can_wait(L)) return execute_blocking(L, command);
  return after_output<wait_for_command>(L);
}

struct Popened {
  fs::Child child;
  int fd = -1;
  int error = 0;
};

/// The two ends of the pipe for a command: ours, and the child's.
struct Ends {
  int ours = -1;
  int childs = -1;
};

Result<Ends> make_ends(bool reads) noexcept {
  const Result<std::array<int, 2>> pipe = fs::make_pipe();
  if (!pipe) return fail(pipe.error());
  return reads ? Ends{(*pipe)[0], (*pipe)[1]} : Ends{(*pipe)[1], (*pipe)[0]};
}

fs::SpawnOptions piped_command(const char* command, bool reads, const Ends& ends) {
  fs::SpawnOptions options = shell_command(command);
  options.stdio[reads ? 1 : 0] = ends.childs;
  return options;
}

Popened popened(const Result<fs::Child>& child, const Ends& ends) noexcept {
  (void)::close(ends.childs);
  if (child) return {*child, ends.ours, 0};
  (void)::close(ends.ours);
  return {{}, -1, child.error().code};
}

Task<Result<Popened>> open_command(std::string command, bool reads) {
  const Result<Ends> ends = make_ends(reads);
  if (!ends) co_return Popened{{}, -1, ends.error().code};
  const Result<fs::Child> child = co_await fs::spawn(piped_command(command.c_str(), reads, *ends));
  const Popened result = popened(child, *ends);
  if (result.error == ECANCELED) co_return fail(ECANCELED);
  co_return result;
}

int push_popened(lua_State* L, const Popened& opened) {
  if (opened.fd < 0) return push_errno(L, opened.error, lua_tostring(L, 1));
  const char* mode = luaL_optstring(L, 2, "r");
  IoFile& file = open_handle(L, opened.fd, mode);
  file.child = opened.child.pid;
  file.child_fd = opened.child.pidfd;
  open_stream(L, file, mode);
  return 1;
}

struct PushPopened {
  static const char* subject() noexcept { return nullptr; }
  int operator()(lua_State* L, const Popened& opened) const { return push_popened(L, opened); }
};

int wait_for_popen(lua_State* L, int status, lua_KContext) {
  if (status == LUA_YIELD) (void)wait_result(L);
  const char* command = luaL_checkstring(L, 1);
  const bool reads = *luaL_optstring(L, 2, "r") == 'r';
  return suspend_task<Popened>(
      L, [command, reads] { return open_command(command, reads); }, PushPopened());
}

int popen_blocking(lua_State* L, const char* command, bool reads) {
  const Result<Ends> ends = make_ends(reads);
  if (!ends) return push_errno(L, ends.error().code, command);
  const Popened opened = popened(fs::spawn_blocking(piped_command(command, reads, *ends)), *ends);
  return push_popened(L, opened);
}

int io_popen(lua_State* L) {
  const char* command = luaL_checkstring(L, 1);
  const char* mode = luaL_optstring(L, 2, "r");
  luaL_argcheck(L, (*mode == 'r' || *mode == 'w') && mode[1] == '\0', 2, "invalid mode");
  lua_settop(L, 2);
  push_closed_handle(L);
  if (!can_wait(L)) return popen_blocking(L, command, *mode == 'r');
  return after_output<wait_for_popen>(L);
}

// -- files ----------------------------------------------------------------------------------------------------------

int finish_path(lua_State* L, int result, const char* path) {
  if (result < 0) return push_wait_errno(L, -result, path);
  lua_pushboolean(L, 1);
  return 1;
}

/// remove(3): a file, or else an empty directory.
bool may_be_directory(int result) noexcept { return result == -EISDIR || result == -EPERM; }

int continue_rmdir(lua_State* L, int, lua_KContext unlinked) {
  const int result = wait_result(L);
  return finish_path(L, result == -ENOTDIR ? static_cast<int>(unlinked) : result, lua_tostring(L, 1));
}

int continue_unlink(lua_State* L, int, lua_KContext) {
  const int result = wait_result(L);
  if (!may_be_directory(result)) return finish_path(L, result, lua_tostring(L, 1));
  return wait_and<ResultWait>(L, continue_rmdir, result, OpCode::unlink, -1,
                              OpArgs{.unlink = {lua_tostring(L, 1), AT_REMOVEDIR}});
}

int os_remove(lua_State* L) {
  const char* path = luaL_checkstring(L, 1);
  if (!can_wait(L)) return luaL_fileresult(L, std::remove(path) == 0, path);
  return wait_and<ResultWait>(L, continue_unlink, 0, OpCode::unlink, -1, OpArgs{.unlink = {path, 0}});
}

int continue_rename(lua_State* L, int, lua_KContext) { return finish_path(L, wait_result(L), nullptr); }

int os_rename(lua_State* L) {
  const char* from = luaL_checkstring(L, 1);
  const char* to = luaL_checkstring(L, 2);
  if (!can_wait(L)) return luaL_fileresult(L, std::rename(from, to) == 0, nullptr);
  return wait_and<ResultWait>(L, continue_rename, 0, OpCode::rename, -1, OpArgs{.rename = {from, to, 0}});
}

/// A file that nobody else has, as mkstemp(3) makes it.
Task<Result<std::string>> make_temporary() {
  constexpr int kAttempts = 100;
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    unsigned char random[6];
    if (::getrandom(random, sizeof random, 0) != sizeof random) break;
    std::string name = "/tmp/lua_";
    for (const unsigned char byte : random) name += kLetters[byte % (sizeof kLetters - 1)];
    IoAwait op(OpCode::open, AT_FDCWD, OpArgs{.open = {name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600}});
    const Result<std::int32_t> fd = co_await op;
    if (!fd && fd.error().is(EEXIST)) continue;
    if (!fd) co_return fail(fd.error());
    IoAwait closing(OpCode::close, *fd);
    (void)co_await closing;
    co_return name;
  }
  co_return fail(EEXIST);
}

struct PushName {
  static const char* subject() noexcept { return nullptr; }
  int operator()(lua_State* L, const std::string& name) const {
    lua_pushlstring(L, name.data(), name.size());
    return 1;
  }
};

int finish_tmpname(lua_State* L, int, lua_KContext) {
  if (lua_isstring(L, 1) == 0) return luaL_error(L, "unable to generate a unique filename");
  lua_settop(L, 1);
  return 1;
}

int try_tmpname(lua_State* L) {
  return suspend_task<std::string>(
      L, [] { return make_temporary(); }, PushName());
}

/// Upvalue: stock tmpname.
int os_tmpname(lua_State* L) {
  if (!can_wait(L)) return lua_tocfunction(L, lua_upvalueindex(1))(L);
  lua_settop(L, 0);
  lua_pushcfunction(L, try_tmpname);
  lua_callk(L, 0, 1, 0, finish_tmpname);
  return finish_tmpname(L, LUA_OK, 0);
}

// -- the end --------------------------------------------------------------------------------------------------------

/// exit([code[, close]]): `close` runs finalizers, unless other tasks are alive, which use what would be finalized.
int os_exit(lua_State* L) {
  int code = EXIT_SUCCESS;
  if (lua_isboolean(L, 1)) {
    code = lua_toboolean(L, 1) != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
  } else {
    code = static_cast<int>(luaL_optinteger(L, 1, EXIT_SUCCESS)) & 0xff;
  }
  const bool close = lua_toboolean(L, 2) != 0;
  Vm& vm = Vm::of(L);
  vm.write_all_out();
  if (close && vm.live_fibers() <= 1) vm.finalize_at_exit();
  (void)std::fflush(nullptr);
  vm.on_exit(code);
  return 0;
}

}  // namespace

void open_os(lua_State* L) {
  lua_getglobal(L, "io");
  const luaL_Reg io_functions[] = {{"popen", io_popen}, {nullptr, nullptr}};
  luaL_setfuncs(L, io_functions, 0);
  lua_getglobal(L, "os");
  const luaL_Reg functions[] = {
      {"execute", os_execute}, {"exit", os_exit}, {"remove", os_remove}, {"rename", os_rename}, {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "tmpname");
  lua_pushcclosure(L, os_tmpname, 1);
  lua_setfield(L, -2, "tmpname");
  lua_pop(L, 2);
}

}  // namespace evlua::lua
