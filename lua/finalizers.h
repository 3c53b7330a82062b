// Finalizers (`__gc`) keep to the limits of the code that runs when Lua collects. Where none runs they are Brief, and
// their errors are told on the log.
#pragma once

namespace evlua::lua {

/// Before there is any state. [any thread]
void watch_finalizers();

}  // namespace evlua::lua
