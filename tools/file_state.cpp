#include "tools/file_state.h"

#include <sys/stat.h>

#include <cstdint>

namespace evlua::tools {

std::string file_state(const std::string& path) {
  std::string state;
  struct stat status {};
  if (path.empty()) return state;
  if (::stat(path.c_str(), &status) != 0) status = {};
  for (const std::int64_t part : {std::int64_t{status.st_mtim.tv_sec}, std::int64_t{status.st_mtim.tv_nsec},
                                  static_cast<std::int64_t>(status.st_ino), std::int64_t{status.st_size}}) {
    state += std::to_string(part) + ' ';
  }
  return state;
}

}  // namespace evlua::tools
