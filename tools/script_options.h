// evlua's command line.
#pragma once

#include "tools/runtime.h"
#include "tools/script.h"

namespace evlua::tools {

struct ScriptCommandLine {
  RuntimeOptions runtime;
  ScriptOptions script;
  bool version = false;
  bool interactive = false;  ///< a prompt follows, wherever input comes from

  /// Something was asked for.
  bool has_work() const { return !script.steps.empty() || !script.tool.empty(); }
  /// Nothing is asked for but modules to be loaded: input tells what to do.
  bool waits_for_input() const;
  /// A report goes to standard output that programs read.
  bool reports_to_programs() const { return script.settings.contains("tap"); }
  /// Turns it into the prompt, of which `native` opens what Lua cannot do; null: it reads plain lines.
  void make_prompt(lua_CFunction native);
  /// LUA_INIT comes first, if there is one and something is run.
  void add_init();

  /// Ends the process after --help, and with 2, after saying why, where something is wrong.
  static ScriptCommandLine parse(int argc, char** argv);
};

}  // namespace evlua::tools
