#include "tools/runtime.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <lua.hpp>

#ifndef EVLUA_VERSION
#define EVLUA_VERSION "0.1.0"
#endif

namespace evlua::tools {

unsigned worker_count(const RuntimeOptions& options) {
  if (options.workers != 0) return options.workers;
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  const int count = CPU_COUNT(&allowed);
  return count < 1 ? 1 : static_cast<unsigned>(count);
}

BackendChoice choose_backend(const RuntimeOptions& options, bool quiet) {
  auto chosen = select_backend(options.backend);
  if (!chosen) {
    std::fprintf(stderr, "evlua: %s\n", chosen.error().c_str());
    std::exit(2);
  }
  if (!chosen->refusal.empty() && !quiet) std::fprintf(stderr, "evlua: using libev: %s\n", chosen->refusal.c_str());
  return std::move(*chosen);
}

std::string version_line(const char* program) {
  std::string line = std::string(program) + " " + EVLUA_VERSION + " (" + LUA_RELEASE + ", ";
  auto chosen = select_backend("");
  line += chosen ? chosen->name : "no backend: " + chosen.error();
  return line + ")";
}

}  // namespace evlua::tools
