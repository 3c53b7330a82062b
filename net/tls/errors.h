// What BoringSSL says went wrong.
#pragma once

#include <string>

namespace evlua::tls {

/// The oldest entry of this thread's error queue, in words; empties the queue.
std::string take_error();

}  // namespace evlua::tls
