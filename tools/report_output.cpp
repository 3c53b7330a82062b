#include "tools/report_output.h"

#include <fcntl.h>
#include <unistd.h>

#include "lua/io_handle.h"

namespace evlua::tools {

namespace {
int kept = STDOUT_FILENO;
}  // namespace

void keep_output_for_report() noexcept {
  const int fd = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (fd < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return;  // then both go to the same place
  kept = fd;
}

int open_report_output(lua_State* L) {
  lua::push_closed_handle(L);
  lua::IoFile& file = lua::open_handle(L, kept, "w");
  file.standard = kept == STDOUT_FILENO;
  file.look_who_shares();  // it may be where standard error goes
  return 1;
}

}  // namespace evlua::tools
