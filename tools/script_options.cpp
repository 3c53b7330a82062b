#include "tools/script_options.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "lua/compat.h"
#include "tools/option_values.h"

namespace evlua::tools {

namespace {

constexpr const char* kUsage =
    "usage: evlua [options] [script [args]]\n"
    "       evlua test [options] [path...]\n"
    "       evlua --check [options] path...\n"
    "  -e CODE          run CODE\n"
    "  -i               go on with a prompt, when the script has been run\n"
    "  -l NAME          require NAME\n"
    "  -v, --version    print the version\n"
    "  -E               ignore LUA_INIT, LUA_PATH and LUA_CPATH\n"
    "  --workers N      worker threads (default: one per core)\n"
    "  --backend NAME   io_uring, libev or auto (default; also EVLUA_BACKEND)\n"
    "  --stats          print what was counted, at the end\n"
    "  --trace FILE     write a timeline for Perfetto or chrome://tracing\n"
    "  --vm-memory MIB  that one Lua state may hold; 0: no limit (default)\n"
    "  --compat NAME    put ours in the place of another library: socket (LuaSocket)\n"
    "  --help           print this\n"
    "  --               end of options\n"
    "  -                run standard input\n"
    "for evlua test, which runs the files *_test.lua that are found:\n"
    "  --filter PATTERN run tests whose name matches\n"
    "  --seed N         the order of tests; 0: that of the files\n"
    "  --timeout SECONDS\n"
    "                   for each test (default 10)\n"
    "  --jobs N         so many files at once (default 1)\n"
    "  --tap            print TAP; what tests print goes to standard error\n"
    "  --junit FILE     write a report in the format of JUnit, too\n"
    "instead of running a script:\n"
    "  --check          look for errors of syntax and for undefined globals in files, and\n"
    "                   in *.lua of folders\n"
    "  --globals NAMES  globals that are defined elsewhere, for --check\n";

[[noreturn]] void usage_error(const std::string& message) {
  std::fprintf(stderr, "evlua: %s\n%s", message.c_str(), kUsage);
  std::exit(2);
}

/// A file of lua/lib, and how it is asked for.
struct Tool {
  const char* file;
  const char* words;
};
constexpr Tool kCheck = {"check", "--check"};
constexpr Tool kTest = {"test_main", "evlua test"};

/// Options of tools, and whose they are.
struct ToolOption {
  const char* name;
  const Tool& tool;
  bool has_value = true;
};
constexpr ToolOption kToolOptions[] = {{"globals", kCheck}, {"filter", kTest}, {"seed", kTest},      {"timeout", kTest},
                                       {"jobs", kTest},     {"junit", kTest},  {"tap", kTest, false}};

class Parser {
 public:
  Parser(int argc, char** argv) : argc_(argc), argv_(argv) {}

  ScriptCommandLine parse();

 private:
  bool ends_at(const std::string& argument);
  void take_option(const std::string& argument);
  bool take_runtime_option();
  bool take_memory();
  bool take_compat();
  bool take_tool_option();
  bool take_value(const std::string& name, std::string& value);
  bool take_short(char letter, std::string& value);
  void check_tool() const;

  const int argc_;
  char** const argv_;
  int index_ = 1;
  ScriptCommandLine line_;
};

/// "--name value" and "--name=value"; moves on.
bool Parser::take_value(const std::string& name, std::string& value) {
  const std::string argument = argv_[index_];
  if (argument.rfind(name + "=", 0) == 0) {
    value = argument.substr(name.size() + 1);
    return true;
  }
  if (argument != name) return false;
  if (index_ + 1 >= argc_) usage_error("'" + name + "' needs a value");
  value = argv_[++index_];
  return true;
}

/// "-e code" and "-ecode".
bool Parser::take_short(char letter, std::string& value) {
  const std::string argument = argv_[index_];
  if (argument.size() < 2 || argument[0] != '-' || argument[1] != letter) return false;
  if (argument.size() > 2) {
    value = argument.substr(2);
  } else {
    if (index_ + 1 >= argc_) usage_error("'" + argument + "' needs a value");
    value = argv_[++index_];
  }
  return true;
}

std::uint64_t parse_number(const char* option, const std::string& text, std::uint64_t min, std::uint64_t max) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || stopped != end || error != std::errc() || number < min || number > max) {
    usage_error(std::string(option) + " takes a number from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return number;
}

bool Parser::take_runtime_option() {
  RuntimeOptions& runtime = line_.runtime;
  std::string workers;
  if (argv_[index_] == std::string("--stats")) {
    runtime.stats = true;
  } else if (take_value("--workers", workers)) {
    runtime.workers = static_cast<unsigned>(parse_number("--workers", workers, 1, 1024));
  } else if (!take_value("--trace", runtime.trace) && !take_value("--backend", runtime.backend)) {
    return false;
  }
  return true;
}

bool Parser::take_memory() {
  std::string mebibytes;
  if (!take_value("--vm-memory", mebibytes)) return false;
  line_.script.vm_memory = parse_number("--vm-memory", mebibytes, 0, kOptionBytesMax >> 20) << 20;
  return true;
}

bool Parser::take_compat() {
  std::string name;
  if (!take_value("--compat", name)) return false;
  if (!lua::is_compat_name(name)) usage_error("--compat knows no '" + name + "'; it knows " + lua::compat_names());
  line_.script.compat.push_back(name);
  return true;
}

bool Parser::take_tool_option() {
  std::string value;
  for (const ToolOption& option : kToolOptions) {
    const std::string name = std::string("--") + option.name;
    if (option.has_value ? !take_value(name, value) : name != argv_[index_]) continue;
    line_.script.settings[option.name].push_back(value);
    return true;
  }
  return false;
}

void Parser::take_option(const std::string& argument) {
  ScriptOptions& script = line_.script;
  std::string value;
  if (argument == "--help" || argument == "-h") {
    std::fputs(kUsage, stdout);
    std::exit(0);
  } else if (argument == "-v" || argument == "--version") {
    line_.version = true;
  } else if (argument == "-i") {
    line_.interactive = true;
  } else if (argument == "-E") {
    script.ignores_environment = true;
  } else if (argument == "--check") {
    script.tool = kCheck.file;
  } else if (take_short('e', value)) {
    script.steps.push_back({ScriptStep::Kind::code, value, {}});
  } else if (take_short('l', value)) {
    script.steps.push_back({ScriptStep::Kind::module, value, {}});
  } else if (!take_runtime_option() && !take_memory() && !take_compat() && !take_tool_option()) {
    usage_error("unrecognized option '" + argument + "'");
  }
}

/// Whether the options end here. A tool's files may stand among its options.
bool Parser::ends_at(const std::string& argument) {
  if (argument == "--") {
    ++index_;
    return true;
  }
  if (argument != "-" && argument.starts_with('-')) return false;
  return line_.script.tool.empty();
}

void Parser::check_tool() const {
  const ScriptOptions& script = line_.script;
  for (const ToolOption& option : kToolOptions) {
    if (script.settings.contains(option.name) && script.tool != option.tool.file) {
      usage_error(std::string("'--") + option.name + "' is an option of '" + option.tool.words + "'");
    }
  }
  if (!script.tool.empty() && !script.steps.empty()) usage_error("there is nothing to run with -e or -l");
  if (!script.tool.empty() && line_.interactive) usage_error("there is no prompt with -i here");
  if (script.tool == kCheck.file && script.files.empty()) usage_error("which files shall be checked?");
}

ScriptCommandLine Parser::parse() {
  ScriptOptions& script = line_.script;
  for (; index_ < argc_; ++index_) {
    const std::string argument = argv_[index_];
    if (argument == "test" && script.tool.empty() && script.steps.empty()) {
      script.tool = kTest.file;
      continue;
    }
    if (ends_at(argument)) break;
    if (argument == "-" || !argument.starts_with('-')) {
      script.files.push_back(argument);
    } else {
      take_option(argument);
    }
  }
  script.program = argv_[0];
  script.script_index = index_;
  script.arguments.assign(argv_, argv_ + argc_);
  if (!script.tool.empty()) {
    script.files.insert(script.files.end(), argv_ + index_, argv_ + argc_);
  } else if (index_ < argc_) {
    script.steps.push_back({ScriptStep::Kind::file, argv_[index_], {}});
  }
  check_tool();
  return std::move(line_);
}

}  // namespace

bool ScriptCommandLine::waits_for_input() const {
  if (!script.tool.empty() || version) return false;
  return std::all_of(script.steps.begin(), script.steps.end(),
                     [](const ScriptStep& step) { return step.kind == ScriptStep::Kind::module; });
}

void ScriptCommandLine::make_prompt(lua_CFunction native) {
  script.tool = "repl";
  script.native = native;
  script.settings["banner"] = {version_line("evlua")};
}

void ScriptCommandLine::add_init() {
  if (script.ignores_environment || (!script.tool.empty() && script.tool != "repl")) return;
  for (const char* name : {"LUA_INIT_5_3", "LUA_INIT"}) {
    const char* text = std::getenv(name);
    if (text == nullptr) continue;
    script.steps.insert(script.steps.begin(), {ScriptStep::Kind::init, text, name});
    return;
  }
}

ScriptCommandLine ScriptCommandLine::parse(int argc, char** argv) { return Parser(argc, argv).parse(); }

}  // namespace evlua::tools
