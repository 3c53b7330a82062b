// evlua's command line.
#pragma once

#include "tools/runtime.h"
#include "tools/script.h"

namespace evlua::tools {

struct ScriptCommandLine {
  RuntimeOptions runtime;
  ScriptOptions script;
  bool version = false;

  /// Ends the process after --help, and with 2, after saying why, where something is wrong.
  static ScriptCommandLine parse(int argc, char** argv);
};

}  // namespace evlua::tools
