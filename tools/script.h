// Running a script: a Vm, a main fiber, and the wait until it and its tasks have ended.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <lua.hpp>

#include "core/scheduler.h"
#include "core/task.h"
#include "lua/signals.h"

namespace evlua::tools {

struct ScriptStep {
  enum class Kind { code, module, file, init };
  Kind kind;
  std::string text;
  std::string name;  ///< the variable that has the `init`, code or @file; "input": the file is not an argument
};

struct ScriptOptions {
  std::string program;
  std::vector<ScriptStep> steps;       ///< in command line order; a file is the last
  std::vector<std::string> arguments;  ///< the whole command line, for `arg`
  int script_index = 0;                ///< of the script in it
  /// A file of lua/lib that is run instead of the steps: it returns a function of `settings` and `files`. It may
  /// perform the steps.
  std::string tool;
  bool ignores_environment = false;  ///< what Lua looks for there
  lua_CFunction native = nullptr;    ///< opens what it needs of the program
  std::vector<std::string> files;
  std::vector<std::string> compat;                           ///< what its Lua states opt for of evlua.compat
  std::size_t vm_memory = 0;                                 ///< bytes that each of them may hold; 0: no limit
  std::map<std::string, std::vector<std::string>> settings;  ///< by the names of options
};

/// The exit code: 0, or 1 after an error that was reported. REQUIRES: `options` and `signals` outlive the task.
Task<int> run_script(Scheduler& scheduler, const ScriptOptions& options, lua::SignalHub& signals);

}  // namespace evlua::tools
