// evlua: runs a Lua script whose input and output suspend only the calling coroutine.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <vector>

#include "core/scheduler.h"
#include "core/trace.h"
#include "lua/fiber.h"
#include "lua/slice.h"
#include "lua/vm.h"
#include "tools/runtime.h"
#include "tools/script.h"

namespace evlua::tools {
namespace {

constexpr const char* kUsage =
    "usage: evlua [options] [script [args]]\n"
    "  -e CODE          run CODE\n"
    "  -l NAME          require NAME\n"
    "  -v, --version    print the version\n"
    "  --workers N      worker threads (default: one per core)\n"
    "  --backend NAME   io_uring, libev or auto (default; also EVLUA_BACKEND)\n"
    "  --stats          print what the workers counted, at the end\n"
    "  --trace FILE     write a timeline for Perfetto or chrome://tracing\n"
    "  --help           print this\n"
    "  --               end of options\n"
    "  -                run standard input\n";

struct CommandLine {
  RuntimeOptions runtime;
  ScriptOptions script;
  bool version = false;
};

[[noreturn]] void usage_error(const std::string& message) {
  std::fprintf(stderr, "evlua: %s\n%s", message.c_str(), kUsage);
  std::exit(2);
}

/// "--name value" and "--name=value"; moves `index` on.
bool take_value(int argc, char** argv, int& index, const std::string& name, std::string& value) {
  const std::string argument = argv[index];
  if (argument.rfind(name + "=", 0) == 0) {
    value = argument.substr(name.size() + 1);
    return true;
  }
  if (argument != name) return false;
  if (index + 1 >= argc) usage_error("'" + name + "' needs a value");
  value = argv[++index];
  return true;
}

/// "-e code" and "-ecode".
bool take_short(int argc, char** argv, int& index, char letter, std::string& value) {
  const std::string argument = argv[index];
  if (argument.size() < 2 || argument[0] != '-' || argument[1] != letter) return false;
  if (argument.size() > 2) {
    value = argument.substr(2);
  } else {
    if (index + 1 >= argc) usage_error("'" + argument + "' needs a value");
    value = argv[++index];
  }
  return true;
}

unsigned parse_workers(const std::string& text) {
  char* end = nullptr;
  const unsigned long count = std::strtoul(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || count < 1 || count > 1024) usage_error("--workers takes a number from 1 to 1024");
  return static_cast<unsigned>(count);
}

CommandLine parse(int argc, char** argv) {
  CommandLine line;
  int index = 1;
  std::string value;
  for (; index < argc; ++index) {
    const std::string argument = argv[index];
    if (argument == "-" || argument[0] != '-') break;
    if (argument == "--") {
      ++index;
      break;
    }
    if (argument == "--help" || argument == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    } else if (argument == "-v" || argument == "--version") {
      line.version = true;
    } else if (argument == "--stats") {
      line.runtime.stats = true;
    } else if (take_value(argc, argv, index, "--workers", value)) {
      line.runtime.workers = parse_workers(value);
    } else if (take_value(argc, argv, index, "--trace", value)) {
      line.runtime.trace = value;
    } else if (take_value(argc, argv, index, "--backend", value)) {
      line.runtime.backend = value;
    } else if (take_short(argc, argv, index, 'e', value)) {
      line.script.steps.push_back({ScriptStep::Kind::code, value});
    } else if (take_short(argc, argv, index, 'l', value)) {
      line.script.steps.push_back({ScriptStep::Kind::module, value});
    } else {
      usage_error("unrecognized option '" + argument + "'");
    }
  }
  line.script.program = argv[0];
  line.script.script_index = index;
  line.script.arguments.assign(argv, argv + argc);
  if (index < argc) line.script.steps.push_back({ScriptStep::Kind::file, argv[index]});
  return line;
}

}  // namespace
}  // namespace evlua::tools

int main(int argc, char** argv) {
  using namespace evlua;
  using namespace evlua::tools;
  CommandLine line = parse(argc, argv);
  if (line.version) {
    std::printf("%s\n", version_line("evlua").c_str());
    if (line.script.steps.empty()) return 0;
  }
  if (line.script.steps.empty()) {
    if (line.version) return 0;
    line.script.steps.push_back({ScriptStep::Kind::file, "-"});
  }
  begin_trace(line.runtime);
  lua::SignalHub signals;
  lua::SliceMonitor slices;
  const BackendChoice backend = choose_backend(line.runtime, false);
  Scheduler scheduler({worker_count(line.runtime)}, backend.factory);
  const Result<int> code = scheduler.run(run_script(scheduler, line.script, signals));
  Trace::finish();
  if (!code) {
    std::fprintf(stderr, "evlua: cannot start: %s\n", code.error().describe().c_str());
    return 1;
  }
  if (line.runtime.stats) print_stats(scheduler);
  return *code;
}
