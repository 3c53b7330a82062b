// Numbers as text for programs and logs. Not printf's: a script may call os.setlocale, and then that writes commas.
#pragma once

#include <charconv>
#include <string>

namespace evlua {

/// As "%.*f", whatever the locale is.
inline std::string fixed_decimal(double value, int digits_behind) {
  char text[400];  // DBL_MAX has 309 digits
  return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits_behind).ptr};
}

/// As "%.*g", whatever the locale is.
inline std::string significant_decimal(double value, int digits) {
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr};
}

}  // namespace evlua
