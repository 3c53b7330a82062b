// Descriptors of this process.
#pragma once

#include <dirent.h>

#include <cstddef>

namespace evlua::test {

inline std::size_t count_descriptors() {
  std::size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

}  // namespace evlua::test
