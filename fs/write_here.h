// Writing at the position that a descriptor has.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "core/task.h"
#include "core/time.h"

namespace evlua::fs {

/// As write(2): some of the bytes, at least one, at the descriptor's position, which moves by as many. REQUIRES: nobody
/// else moves it meanwhile, and `bytes` stay valid until the task ends.
Task<Result<std::int32_t>> write_here(int fd, std::string_view bytes, Instant deadline = kNever);

}  // namespace evlua::fs
