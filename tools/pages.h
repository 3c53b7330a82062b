// The pages of tools/pages/, embedded at build time.
#pragma once

#include "lua/embedded.h"

namespace evlua::tools {

extern const lua::EmbeddedFile embedded_pages[];

}  // namespace evlua::tools
