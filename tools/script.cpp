#include "tools/script.h"

#include <signal.h>

#include <atomic>
#include <cstdio>
#include <lua.hpp>
#include <memory>

#include "lua/fiber.h"
#include "lua/io_file.h"
#include "lua/modules.h"
#include "lua/signals.h"
#include "lua/task_list.h"
#include "lua/vm.h"
#include "tools/prompt.h"
#include "tools/runtime.h"

namespace evlua::tools {

namespace {

using lua::Fiber;
using lua::Vm;

/// Global `arg`, as lua.c makes it.
void set_arguments(lua_State* L, const ScriptOptions& options) {
  const int count = static_cast<int>(options.arguments.size());
  const int script = options.script_index < count ? options.script_index : 0;
  lua_createtable(L, count - script, script + 1);
  for (int i = 0; i < count; ++i) {
    lua_pushstring(L, options.arguments[static_cast<std::size_t>(i)].c_str());
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

/// As if the environment said nothing of them. Other Lua states get theirs from this one.
void set_default_paths(lua_State* L) {
  lua_getglobal(L, "package");
  lua_pushliteral(L, LUA_PATH_DEFAULT);
  lua_setfield(L, -2, "path");
  lua_pushliteral(L, LUA_CPATH_DEFAULT);
  lua_setfield(L, -2, "cpath");
  lua_pop(L, 1);
}

/// The main function: a Lua function that performs the steps in turn, so that each may wait.
constexpr const char* kMain = R"lua(
local steps = ...
-- Nothing has run that a traceback could tell of.
local function refuse(message)
  io.stderr:write("evlua: ", message, "\n")
  os.exit(1)
end
for i = 1, #steps do
  local step = steps[i]
  if step.kind == "code" then
    local chunk, message = load(step.text, "=(command line)")
    if not chunk then refuse(message) end
    chunk()
  elseif step.kind == "init" then
    local chunk, message
    if step.text:find("^@") then
      chunk, message = loadfile(step.text:sub(2))
    else
      chunk, message = load(step.text, "=" .. step.name)
    end
    if not chunk then refuse(message) end
    chunk()
  elseif step.kind == "module" then
    _G[step.text] = require(step.text)
  else
    local chunk, message
    if step.text == "-" then chunk, message = loadfile() else chunk, message = loadfile(step.text) end
    if not chunk then refuse(message) end
    if step.name == "input" then return chunk() end
    return chunk(table.unpack(arg, 1, #arg))
  end
end
)lua";

void push_steps(lua_State* L, const ScriptOptions& options) {
  static const char* const kinds[] = {"code", "module", "file", "init"};
  lua_newtable(L);
  lua_Integer index = 0;
  for (const ScriptStep& step : options.steps) {
    lua_newtable(L);
    lua_pushstring(L, kinds[static_cast<int>(step.kind)]);
    lua_setfield(L, -2, "kind");
    lua_pushlstring(L, step.text.data(), step.text.size());
    lua_setfield(L, -2, "text");
    lua_pushstring(L, step.name.c_str());
    lua_setfield(L, -2, "name");
    lua_rawseti(L, -2, ++index);
  }
}

/// The main function of a tool.
constexpr const char* kToolMain = R"lua(
local open, options = ...
local code = open()(options)
if code ~= 0 then os.exit(code) end
)lua";

void push_list(lua_State* L, const std::vector<std::string>& list) {
  lua_newtable(L);
  lua_Integer index = 0;
  for (const std::string& text : list) {
    lua_pushlstring(L, text.data(), text.size());
    lua_rawseti(L, -2, ++index);
  }
}

void push_main(lua_State* L, const char* code) {
  EVLUA_CHECK(luaL_loadbufferx(L, code, std::char_traits<char>::length(code), "=[evlua]", "t") == LUA_OK);
}

/// Pushes what `kToolMain` gets: the tool's file, and {files = {..}, NAME = {value..}}. A tool that performs the steps
/// calls `perform(steps)`.
void push_tool(lua_State* L, const ScriptOptions& options) {
  lua::push_embedded(L, options.tool.c_str());
  lua_newtable(L);
  push_list(L, options.files);
  lua_setfield(L, -2, "files");
  if (options.native != nullptr) {
    lua_pushcfunction(L, options.native);
    lua_setfield(L, -2, "native");
  }
  push_main(L, kMain);
  lua_setfield(L, -2, "perform");
  push_steps(L, options);
  lua_setfield(L, -2, "steps");
  for (const auto& [name, values] : options.settings) {
    push_list(L, values);
    lua_setfield(L, -2, name.c_str());
  }
}

void start_main(Vm& vm, const ScriptOptions& options, Fiber::Owner& main) {
  main.ended = [](Fiber::Owner&, Fiber& fiber, Fiber::Outcome outcome) {
    if (outcome != Fiber::Outcome::failed) return;
    const std::string text = fiber.failure_text();
    fiber.vm().task_errors().tell_all();  // one of them may be the cause
    fiber.vm().write_all_out();
    std::fflush(nullptr);
    std::fprintf(stderr, "evlua: %s\n", text.c_str());
    fiber.vm().on_exit(1);  // the other tasks may be waiting for what the script does not do any more
  };
  Fiber* fiber = vm.take_fiber();
  EVLUA_CHECK(fiber != nullptr);
  lua_State* L = fiber->root();
  fiber->set_label("main");
  set_arguments(L, options);
  if (options.ignores_environment) set_default_paths(L);
  if (options.tool.empty()) {
    push_main(L, kMain);
    push_steps(L, options);
  } else {
    push_main(L, kToolMain);
    push_tool(L, options);
  }
  fiber->start(lua_gettop(L) - 1, &main);
}

/// What was going on, then out.
void end_script(Vm& vm, int signal) {
  vm.task_errors().tell_all();
  vm.io().write_briefly();
  std::fflush(stdout);
  std::fprintf(stderr, "evlua: %s\n", signal == SIGINT ? "interrupted" : "terminated");
  std::fputs(lua::describe_tasks(vm).c_str(), stderr);
  std::fflush(nullptr);
  leave(128 + signal);
}

/// SIGINT and SIGTERM.
void end_script_or_line(Vm& vm, int signal) {
  if (signal == SIGINT && prompt_has_begun()) {
    interrupt_prompt(vm);
  } else {
    end_script(vm, signal);
  }
}

/// No task can go on any more: the program would wait for ever.
void end_deadlock(Vm::DeadlockWatch&, Vm& vm) {
  if (lua::has_signal_handlers(vm) || prompt_has_begun()) return;
  vm.task_errors().tell_all();
  vm.io().write_briefly();
  std::fflush(stdout);
  std::fprintf(stderr, "evlua: deadlock: all tasks wait for each other\n%s", lua::describe_tasks(vm).c_str());
  std::fflush(nullptr);
  leave(1);
}

std::atomic<int> stuck_signal{0};

/// As lua.c does.
void stop_at_next_instruction(lua_State* L) {
  lua_sethook(
      L,
      [](lua_State* state, lua_Debug*) {
        lua_sethook(state, nullptr, 0, 0);
        luaL_traceback(state, state, nullptr, 0);
        std::fprintf(stderr, "%s\n", lua_tostring(state, -1));
        end_script(Vm::of(state), stuck_signal);
      },
      LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/// The strand is busy with Lua code that does not wait. On the thread that receives signals.
void stop_stuck_script(Vm& vm, int signal) {
  if (signal == SIGINT && prompt_has_begun()) {
    vm.condemn_stuck("interrupted");
    return;
  }
  stuck_signal = signal;
  lua_State* L = vm.current_state();
  if (L != nullptr) stop_at_next_instruction(L);
}

/// It is in a C function for long, or another Lua state's code holds the worker.
void leave_stuck_script(Vm&, int signal) {
  if (signal == SIGINT && prompt_has_begun()) return;
  std::fprintf(stderr, "evlua: %s\n", signal == SIGINT ? "interrupted" : "terminated");
  leave(128 + signal);
}

void hear_signal(Vm& vm, int) { vm.condemn_stuck(nullptr); }

}  // namespace

Task<int> run_script(Scheduler& scheduler, const ScriptOptions& options, lua::SignalHub& signals) {
  std::unique_ptr<Vm> vm = Vm::create(scheduler, {.memory_max = options.vm_memory, .compat = options.compat});
  if (vm == nullptr) co_return 1;
  vm->on_exit = [](int code) {
    std::fflush(nullptr);
    leave(code);
  };
  // As for a program that SIGPIPE ends: nobody reads what the script prints.
  vm->io().on_broken_output = [] { leave(128 + SIGPIPE); };
  Vm::DeadlockWatch deadlocks{end_deadlock};
  vm->watch_deadlocks(&deadlocks);
  Fiber::Owner main;
  start_main(*vm, options, main);
  signals.set_stuck_actions({.stuck = stop_stuck_script, .last_resort = leave_stuck_script, .heard = hear_signal});
  signals.attach(*vm, end_script_or_line);
  (void)co_await vm->idle().wait();
  signals.detach();
  vm->close();
  const int code = vm->task_errors().any_dropped() ? 1 : 0;
  std::fflush(stdout);
  co_return code;
}

}  // namespace evlua::tools
