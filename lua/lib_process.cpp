// evlua.process: other programs, run to their end or beside us.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "fs/process.h"
#include "fs/run.h"
#include "lua/fs_values.h"
#include "lua/io_handle.h"
#include "lua/modules.h"
#include "lua/net_values.h"
#include "lua/process_options.h"
#include "lua/signal_names.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kProcessType = "evlua.child";
constexpr double kGraceSeconds = 2;
constexpr const char* kStdioNames[] = {"stdin", "stdout", "stderr"};

struct ProcessHandle {
  fs::Process process;
  bool has_group = false;
  char name[48] = "process";

  const char* subject() const noexcept { return name; }
};

ProcessHandle& check_process(lua_State* L) { return *static_cast<ProcessHandle*>(check_object(L, 1, kProcessType)); }

/// Pushes {code = 0, ok = true} or {signal = "SIGKILL", ok = false}.
void push_status(lua_State* L, const fs::ExitStatus& status) {
  lua_createtable(L, 0, 4);
  if (status.signal != 0) {
    push_signal_name(L, status.signal);
    lua_setfield(L, -2, "signal");
  } else {
    lua_pushinteger(L, status.code);
    lua_setfield(L, -2, "code");
  }
  lua_pushboolean(L, status.signal == 0 && status.code == 0);
  lua_setfield(L, -2, "ok");
}

/// "spawn NAME: what failed: why"; see push_process_request for the stack.
int push_launch_failure(lua_State* L, const fs::Launched& launched) {
  const char* name = lua_tostring(L, kNameIndex);
  const Error error{launched.error, ErrorDomain::system, OpCode::nop};
  if (launched.unknown_name) {
    lua_pushfstring(L, "spawn %s: no such user or group: %s", name, lua_tostring(L, kAccountIndex));
    return push_failure(L, lua_tostring(L, -1), "EINVAL");
  }
  const char* subject = lua_pushfstring(L, "spawn %s", name);
  if (launched.step == fs::SpawnStep::directory) {
    subject = lua_pushfstring(L, "spawn %s: chdir %s", name, lua_tostring(L, kDirectoryIndex));
  } else if (launched.step == fs::SpawnStep::user) {
    subject = lua_pushfstring(L, "spawn %s: become %s", name, lua_tostring(L, kAccountIndex));
  }
  return push_failure(L, error, subject);
}

// -- run ------------------------------------------------------------------------------------------------------------

void push_result(lua_State* L, const fs::RunResult& result) {
  push_status(L, result.status);
  lua_pushlstring(L, result.output.data(), result.output.size());
  lua_setfield(L, -2, "stdout");
  lua_pushlstring(L, result.errors.data(), result.errors.size());
  lua_setfield(L, -2, "stderr");
  if (result.incomplete) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "incomplete");
  }
}

struct PushResult : About {
  using About::About;
  int operator()(lua_State* L, const std::unique_ptr<fs::RunResult>& ended) const {
    const fs::RunResult& result = *ended;
    using Outcome = fs::RunResult::Outcome;
    if (result.outcome == Outcome::not_started) return push_launch_failure(L, result.launched);
    if (result.outcome != Outcome::ended) {
      Error error{ETIMEDOUT, ErrorDomain::system, OpCode::nop};
      if (result.outcome == Outcome::too_much) error = fail(Errc::too_large).value();
      (void)push_failure(L, error, subject());
      push_result(L, result);
      return 4;
    }
    push_result(L, result);
    return 1;
  }
};

int run_flushed(lua_State* L, int status, lua_KContext) {
  if (status == LUA_YIELD) (void)wait_result(L);
  auto* request = static_cast<ProcessRequest*>(lua_touserdata(L, kRequestIndex));
  return suspend_task<std::unique_ptr<fs::RunResult>>(
      L, [request] { return fs::run(std::move(request->run)); }, PushResult(lua_tostring(L, kNameIndex)));
}

/// run{program, argument, ..., option = value, ...}
int run(lua_State* L) {
  const bool inherits = push_process_request(L, ProcessUse::run).inherits_output;
  (void)fiber_to_wait(L);
  return inherits ? after_output<run_flushed>(L) : run_flushed(L, LUA_OK, 0);
}

// -- spawn ----------------------------------------------------------------------------------------------------------

struct PushProcess : About {
  using About::About;
  bool has_group = false;

  int operator()(lua_State* L, fs::Launched& launched) const {
    if (launched.error != 0) return push_launch_failure(L, launched);
    auto& handle = *new (lua_newuserdata(L, sizeof(ProcessHandle))) ProcessHandle;
    handle.process = std::move(launched.process);
    handle.has_group = has_group;
    luaL_setmetatable(L, kProcessType);
    std::strncpy(handle.name, lua_tostring(L, kNameIndex), sizeof handle.name - 1);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, handle.process.pid());
    lua_setfield(L, -2, "pid");
    for (std::size_t target = 0; target < 3; ++target) {
      fs::File& pipe = launched.pipes[target];
      if (!pipe.is_open()) continue;
      net::Socket end(pipe.release());
      push_pipe(L, end);
      lua_setfield(L, -2, kStdioNames[target]);
    }
    lua_setuservalue(L, -2);
    return 1;
  }
};

/// As a Result, for those who wait.
Task<Result<fs::Launched>> launch_child(fs::LaunchOptions options) {
  fs::Launched launched = co_await fs::launch(std::move(options));
  if (launched.error == ECANCELED) co_return fail(ECANCELED);
  co_return launched;
}

int spawn_flushed(lua_State* L, int status, lua_KContext) {
  if (status == LUA_YIELD) (void)wait_result(L);
  auto* request = static_cast<ProcessRequest*>(lua_touserdata(L, kRequestIndex));
  const fs::SpawnOptions& options = request->launch().spawn;
  PushProcess push(lua_tostring(L, kNameIndex));
  push.has_group = options.new_group || options.new_session;
  return suspend_task<fs::Launched>(
      L, [request] { return launch_child(std::move(request->launch())); }, push);
}

/// spawn{program, argument, ..., option = value, ...}
int spawn(lua_State* L) {
  const bool inherits = push_process_request(L, ProcessUse::spawn).inherits_output;
  (void)fiber_to_wait(L);
  return inherits ? after_output<spawn_flushed>(L) : spawn_flushed(L, LUA_OK, 0);
}

// -- processes ------------------------------------------------------------------------------------------------------

struct PushEnd {
  ProcessHandle* handle;
  const char* subject() const noexcept { return handle->name; }
  int operator()(lua_State* L) const {
    push_status(L, *handle->process.look());
    return 1;
  }
};

/// wait([options]) -> status
int wait(lua_State* L) {
  ProcessHandle& handle = check_process(L);
  const Instant deadline = deadline_option(L, 2);
  const PushEnd push{&handle};
  if (handle.process.look()) return push(L);
  return suspend_task<void>(
      L, [&handle, deadline] { return handle.process.wait(deadline); }, push);
}

/// status() -> status, or nil while it runs
int status(lua_State* L) {
  ProcessHandle& handle = check_process(L);
  if (!handle.process.look()) return 0;
  return PushEnd{&handle}(L);
}

bool group_option(lua_State* L, int index, const ProcessHandle& handle) {
  const bool group = option_flag(L, index, "group", false);
  luaL_argcheck(L, !group || handle.has_group, index, "option 'group': only for one spawned with 'new_group'");
  return group;
}

/// kill([signal[, options]])
int kill(lua_State* L) {
  ProcessHandle& handle = check_process(L);
  const int number = check_signal(L, 2, SIGTERM);
  const bool group = check_options(L, 3, {"group"}) && group_option(L, 3, handle);
  (void)handle.process.look();
  const Result<void> sent = group ? handle.process.signal_group(number) : handle.process.signal(number);
  if (!sent) return push_failure(L, sent.error(), lua_pushfstring(L, "kill %s", handle.name));
  lua_pushboolean(L, 1);
  return 1;
}

Task<Result<void>> stop_process(fs::Process& process, fs::Process::Stop how) {
  co_await process.stop(how);
  co_return Result<void>();
}

/// stop([options]) -> status
int stop(lua_State* L) {
  ProcessHandle& handle = check_process(L);
  fs::Process::Stop how{duration_from_seconds(kGraceSeconds), handle.has_group};
  if (check_options(L, 2, {"grace"})) how.grace = duration_from_seconds(option_number(L, 2, "grace", kGraceSeconds));
  return suspend_task<void>(
      L, [&handle, how] { return stop_process(handle.process, how); }, PushEnd{&handle});
}

using Pipes = std::array<net::Stream*, 3>;

Task<void> close_all(fs::Process& process, fs::Process::Stop how, Pipes pipes) {
  co_await process.stop(how);
  for (net::Stream* pipe : pipes) {
    if (pipe != nullptr) co_await pipe->close();
  }
}

/// close(): kills what still runs, collects it, and closes the pipes.
int close(lua_State* L) {
  ProcessHandle& handle = check_process(L);
  lua_settop(L, 1);
  lua_getuservalue(L, 1);
  Pipes pipes{};
  for (std::size_t target = 0; target < 3; ++target) {
    lua_getfield(L, 2, kStdioNames[target]);  // stays on the stack
    pipes[target] = to_stream(L, -1);
  }
  const fs::Process::Stop how{0, handle.has_group};
  return suspend_close(L, [&handle, how, pipes] { return close_all(handle.process, how, pipes); });
}

/// p.name: a method, or one of its own values.
int index_process(lua_State* L) {
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  lua_getuservalue(L, 1);
  lua_pushvalue(L, 2);
  lua_rawget(L, -2);
  return 1;
}

int process_to_string(lua_State* L) {
  ProcessHandle& handle = check_process(L);
  const bool ended = handle.process.look().has_value();
  lua_pushfstring(L, "process %d %s%s", static_cast<int>(handle.process.pid()), handle.name, ended ? " (ended)" : "");
  return 1;
}

int collect_process(lua_State* L) {
  auto* handle = static_cast<ProcessHandle*>(lua_touserdata(L, 1));
  handle->~ProcessHandle();
  new (handle) ProcessHandle;
  return 0;
}

// -- ourselves ------------------------------------------------------------------------------------------------------

/// env() -> a table of all variables
int env(lua_State* L) {
  lua_newtable(L);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const char* value = std::strchr(*entry, '=');
    if (value == nullptr) continue;
    lua_pushlstring(L, *entry, static_cast<std::size_t>(value - *entry));
    lua_pushstring(L, value + 1);
    lua_rawset(L, -3);
  }
  return 1;
}

int pid(lua_State* L) {
  lua_pushinteger(L, ::getpid());
  return 1;
}

void define_process_type(lua_State* L) {
  const luaL_Reg methods[] = {{"wait", wait}, {"status", status}, {"kill", kill},
                              {"stop", stop}, {"close", close},   {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", process_to_string}, {"__gc", collect_process}, {nullptr, nullptr}};
  define_type(L, kProcessType, nullptr, meta);
  luaL_getmetatable(L, kProcessType);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_createtable(L, 0, 4);  // the names of what index_process finds in an object
  for (const char* name : {"pid", "stdin", "stdout", "stderr"}) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, name);
  }
  lua_pushcclosure(L, index_process, 2);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}

}  // namespace

int open_process(lua_State* L) {
  define_stream_type(L);
  define_process_request(L);
  define_process_type(L);
  const luaL_Reg functions[] = {{"run", run}, {"spawn", spawn}, {"env", env}, {"pid", pid}, {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

}  // namespace evlua::lua
