// JSON text (RFC 8259) to Lua values, straight onto the stack.
#pragma once

#include <lua.hpp>

#include <cstdint>
#include <string_view>

#include "lua/json_scan.h"

namespace evlua::lua {

/// What becomes of an integer beyond 64 bits.
enum class JsonBig : std::uint8_t { as_float, as_string, refuse };

struct JsonDecodeOptions {
  std::uint32_t depth_max = 1000;
  JsonBig big = JsonBig::as_float;
};

/// Pushes the value and returns 1, or nil, message, code and returns 3; raises when memory runs out, wherever that is.
/// `array_meta` is the stack index of what marks arrays. REQUIRES: `text` is a Lua string that lives on, and `scanner`
/// is not used by anybody else, finalizers that run meanwhile included.
int decode_json(lua_State* L, std::string_view text, const JsonDecodeOptions& options, int array_meta,
                JsonScanner& scanner);

}  // namespace evlua::lua
