// Copying files, removing trees, and names that nobody else has.
#pragma once

#include <string>
#include <utility>

#include "core/error.h"
#include "core/task.h"
#include "fs/file.h"

namespace evlua::fs {

struct CopyOptions {
  bool overwrite = true;  ///< else EEXIST
  bool preserve = false;  ///< times, and the owner where that is allowed
};

/// Copies the content and the permissions of a file. EISDIR for a directory. What was made and is not whole, because of
/// a failure or a cancellation, is removed.
Task<Result<void>> copy_file(std::string from, std::string to, CopyOptions options);

/// Removes a file, or a directory with everything in it, see removal.h.
Task<Result<void>> remove_tree(std::string path);

struct TemporaryName {
  std::string directory;  ///< empty: $TMPDIR, or /tmp
  std::string prefix = "evlua-";
  std::string suffix{};
};

/// For its owner only, open for reading and writing.
Task<Result<std::pair<File, std::string>>> make_temporary_file(TemporaryName name);
Task<Result<std::string>> make_temporary_directory(TemporaryName name);

}  // namespace evlua::fs
