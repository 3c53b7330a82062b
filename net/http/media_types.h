// The media types of files, by their names.
#pragma once

#include <string_view>

namespace evlua::http {

/// "text/html; charset=utf-8" for "index.html"; "application/octet-stream" for what is not known.
std::string_view media_type_of(std::string_view file_name) noexcept;

/// Whether a body of that type becomes smaller when it is compressed.
bool is_compressible(std::string_view media_type) noexcept;

}  // namespace evlua::http
