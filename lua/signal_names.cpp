#include "lua/signal_names.h"

#include <signal.h>

#include <cstring>

namespace evlua::lua {

namespace {

struct NamedSignal {
  const char* name;  // without "SIG"
  int number;
};
constexpr NamedSignal kNames[] = {{"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},    {"ILL", SIGILL},
                                  {"TRAP", SIGTRAP},     {"ABRT", SIGABRT}, {"BUS", SIGBUS},      {"FPE", SIGFPE},
                                  {"KILL", SIGKILL},     {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},    {"USR2", SIGUSR2},
                                  {"PIPE", SIGPIPE},     {"ALRM", SIGALRM}, {"TERM", SIGTERM},    {"CHLD", SIGCHLD},
                                  {"CONT", SIGCONT},     {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},    {"TTIN", SIGTTIN},
                                  {"TTOU", SIGTTOU},     {"URG", SIGURG},   {"XCPU", SIGXCPU},    {"XFSZ", SIGXFSZ},
                                  {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"IO", SIGIO},        {"SYS", SIGSYS},
                                  {"WINCH", SIGWINCH},   {"PWR", SIGPWR},   {"STKFLT", SIGSTKFLT}};

}  // namespace

int check_signal(lua_State* L, int index, int otherwise) {
  if (lua_isnoneornil(L, index)) return otherwise;
  if (lua_type(L, index) == LUA_TNUMBER) {
    const lua_Integer number = luaL_checkinteger(L, index);
    luaL_argcheck(L, number >= 0 && number < NSIG, index, "no such signal");
    return static_cast<int>(number);
  }
  const char* name = luaL_checkstring(L, index);
  const char* plain = std::strncmp(name, "SIG", 3) == 0 ? name + 3 : name;
  for (const NamedSignal& signal : kNames) {
    if (std::strcmp(signal.name, plain) == 0) return signal.number;
  }
  return luaL_argerror(L, index, lua_pushfstring(L, "no signal has the name '%s'", name));
}

void push_signal_name(lua_State* L, int number) {
  for (const NamedSignal& signal : kNames) {
    if (signal.number != number) continue;
    lua_pushfstring(L, "SIG%s", signal.name);
    return;
  }
  lua_pushfstring(L, "SIG%d", number);
}

}  // namespace evlua::lua
