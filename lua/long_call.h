// What C code of ours asks every so often that computes on and on, since no hook comes by there.
#pragma once

namespace evlua::lua {

/// Lets others have what waits; null, or what the computation has to be ended with.
const char* look_at_limits() noexcept;

}  // namespace evlua::lua
