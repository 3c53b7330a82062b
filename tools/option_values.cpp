#include "tools/option_values.h"

#include <charconv>
#include <cmath>
#include <string>
#include <system_error>

#include "net/http/syntax.h"

namespace evlua::tools {

namespace {

/// All of the text is one number.
template <class Number>
std::errc parse_all(const std::string& text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped != end ? std::errc::invalid_argument : error;
}

std::string plain(std::uint64_t number) { return std::to_string(number); }

std::string plain(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number, std::chars_format::fixed).ptr};
}

template <class Number>
std::string compare(const std::string& text, Number number, Number least, Number most) {
  if (number < least) return "'" + text + "' is too small, it has to be at least " + plain(least);
  if (number > most) return "'" + text + "' is too large, it may be " + plain(most) + " at most";
  return {};
}

}  // namespace

CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
  const auto check = [least, most](std::string& text) -> std::string {
    std::uint64_t number = 0;
    const std::errc error = parse_all(text, number);
    if (error == std::errc::result_out_of_range) number = UINT64_MAX;
    if (error == std::errc::invalid_argument) return "'" + text + "' is no whole number from " + plain(least) + " up";
    std::string wrong = compare(text, number, least, most);
    if (wrong.empty()) text = plain(number);  // CLI11 would take leading zeros for octal
    return wrong;
  };
  return {check, ""};
}

CLI::Validator seconds_from(double least, double most) {
  const auto check = [least, most](std::string& text) -> std::string {
    double number = 0;
    const std::errc error = parse_all(text, number);
    if (error != std::errc() || !std::isfinite(number)) return "'" + text + "' is no number of seconds";
    return compare(text, number, least, most);
  };
  return {check, ""};
}

CLI::Validator header_value() {
  const auto check = [](std::string& text) -> std::string {
    return http::valid_field_value(text) ? "" : "a line break, or another control character, cannot be in a header";
  };
  return {check, ""};
}

}  // namespace evlua::tools
