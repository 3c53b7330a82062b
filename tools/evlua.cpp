// evlua: runs a Lua script whose input and output suspend only the calling coroutine.
#include <cstdio>

#include "core/descriptor_limit.h"
#include "core/scheduler.h"
#include "core/trace.h"
#include "lua/slice.h"
#include "tools/prompt.h"
#include "tools/report_output.h"
#include "tools/runtime.h"
#include "tools/script.h"
#include "tools/script_options.h"
#include "tools/stats_report.h"

namespace {

int complain(const evlua::Error& error) {
  using evlua::tools::start_failure;
  std::fprintf(stderr, "evlua: %s\n", start_failure(error).c_str());
  return 1;
}

/// Where nothing is named to be run, input is; and a prompt is where it was asked for, or where somebody types.
void prepare_input(evlua::tools::ScriptCommandLine& line) {
  using namespace evlua::tools;
  const bool waits = line.waits_for_input();
  if (line.interactive || (waits && at_terminal())) {
    line.make_prompt(at_terminal() ? open_prompt : nullptr);
    if (at_terminal()) set_at_leave(restore_terminal);
  } else if (waits) {
    line.script.steps.push_back({ScriptStep::Kind::file, "-", "input"});
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace evlua;
  using namespace evlua::tools;
  keep_standard_numbers();
  raise_descriptor_limit();
  ScriptCommandLine line = ScriptCommandLine::parse(argc, argv);
  if (line.version && !line.interactive) std::printf("%s\n", version_line("evlua").c_str());
  prepare_input(line);
  line.add_init();
  if (!line.has_work()) return 0;
  if (line.reports_to_programs()) {
    keep_output_for_report();
    line.script.native = open_report_output;
  }
  const Result<void> enough = check_descriptors(worker_count(line.runtime));
  if (!enough) return complain(enough.error());
  begin_trace(line.runtime);
  lua::SignalHub signals;
  lua::SliceMonitor slices;
  const Result<void> helped = start_helpers(signals, slices);
  if (!helped) return complain(helped.error());
  const BackendChoice backend = choose_backend(line.runtime, false);
  Scheduler scheduler({worker_count(line.runtime)}, backend.factory);
  const StatsReport report(scheduler, line.runtime.stats);
  const Result<int> code = scheduler.run(run_script(scheduler, line.script, signals));
  Trace::finish();
  if (!code) return complain(code.error());
  StatsReport::print();
  return *code;
}
