// Whole files, read and written right here, by whoever may block. Another thread may start a program meanwhile, which
// must not inherit them: the streams of the standard library open files without O_CLOEXEC.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace evlua {

/// What is in the file. Blocks. [any thread]
Result<std::string> read_whole_file(const std::string& path);

/// Makes the file, or empties the one that there is, and writes that. A symbolic link is not followed. Blocks. [any
/// thread]
Result<void> write_whole_file(const std::string& path, std::string_view text) noexcept;

/// All of it, to what is no socket or pipe that does not block. 0 or an errno. Blocks. [any thread]
int write_all(int fd, std::string_view text) noexcept;

}  // namespace evlua
