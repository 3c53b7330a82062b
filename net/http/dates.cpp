#include "net/http/dates.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

constexpr std::int64_t kFirst = -62167219200;  // of the year 0, and the last of the year 9999: there are four digits
constexpr std::int64_t kLast = 253402300799;

void two_digits(char* to, unsigned value) noexcept {
  to[0] = static_cast<char>('0' + value / 10);
  to[1] = static_cast<char>('0' + value % 10);
}

/// Takes what it expects from the front of a text; once something else was there, nothing succeeds.
class Reader {
 public:
  explicit Reader(std::string_view text) noexcept : rest_(text) {}

  void skip(std::string_view expected) noexcept {
    good_ = good_ && rest_.starts_with(expected);
    if (good_) rest_.remove_prefix(expected.size());
  }
  /// A name of a day, short or long, and what may follow its third letter.
  void skip_word() noexcept {
    while (!rest_.empty() && rest_[0] >= 'A' && rest_[0] <= 'z') rest_.remove_prefix(1);
  }
  int number(std::size_t digits) noexcept {
    int value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      const bool padded = i == 0 && digits == 2 && !rest_.empty() && rest_[0] == ' ';  // asctime
      good_ = good_ && !rest_.empty() && (is_digit(rest_[0]) || padded);
      if (!good_) return 0;
      value = value * 10 + (padded ? 0 : rest_[0] - '0');
      rest_.remove_prefix(1);
    }
    return value;
  }
  int month() noexcept {
    for (std::size_t i = 0; good_ && i < kMonths.size(); ++i) {
      if (!rest_.starts_with(kMonths[i])) continue;
      rest_.remove_prefix(3);
      return static_cast<int>(i);
    }
    good_ = false;
    return 0;
  }
  void time(std::tm& parts) noexcept {
    parts.tm_hour = number(2);
    skip(":");
    parts.tm_min = number(2);
    skip(":");
    parts.tm_sec = number(2);
  }
  char next() const noexcept { return rest_.empty() ? '\0' : rest_[0]; }
  bool ended() const noexcept { return good_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool good_ = true;
};

}  // namespace

std::string format_date(std::int64_t seconds) {
  namespace chrono = std::chrono;
  const chrono::sys_seconds time{chrono::seconds(std::clamp(seconds, kFirst, kLast))};
  const auto day = chrono::floor<chrono::days>(time);
  const chrono::year_month_day date(day);
  const chrono::hh_mm_ss clock(time - day);
  const int year = static_cast<int>(date.year());
  std::string text = "DDD, dd MMM yyyy hh:mm:ss GMT";
  kDays[chrono::weekday(day).c_encoding()].copy(&text[0], 3);
  two_digits(&text[5], static_cast<unsigned>(date.day()));
  kMonths[static_cast<unsigned>(date.month()) - 1].copy(&text[8], 3);
  two_digits(&text[12], static_cast<unsigned>(year / 100));
  two_digits(&text[14], static_cast<unsigned>(year % 100));
  two_digits(&text[17], static_cast<unsigned>(clock.hours().count()));
  two_digits(&text[20], static_cast<unsigned>(clock.minutes().count()));
  two_digits(&text[23], static_cast<unsigned>(clock.seconds().count()));
  return text;
}

std::optional<std::int64_t> parse_date(std::string_view text) noexcept {
  std::tm parts{};
  Reader reader(text);
  reader.skip_word();
  if (reader.next() == ',') {
    reader.skip(", ");
    parts.tm_mday = reader.number(2);
    const bool obsolete = reader.next() == '-';  // Sunday, 06-Nov-94 08:49:37 GMT
    reader.skip(obsolete ? "-" : " ");
    parts.tm_mon = reader.month();
    reader.skip(obsolete ? "-" : " ");
    parts.tm_year = obsolete ? reader.number(2) : reader.number(4) - 1900;
    if (obsolete && parts.tm_year < 70) parts.tm_year += 100;
    reader.skip(" ");
    reader.time(parts);
    reader.skip(" GMT");
  } else {  // Sun Nov  6 08:49:37 1994
    reader.skip(" ");
    parts.tm_mon = reader.month();
    reader.skip(" ");
    parts.tm_mday = reader.number(2);
    reader.skip(" ");
    reader.time(parts);
    reader.skip(" ");
    parts.tm_year = reader.number(4) - 1900;
  }
  const bool possible =
      parts.tm_mday >= 1 && parts.tm_mday <= 31 && parts.tm_hour < 24 && parts.tm_min < 60 && parts.tm_sec <= 60;
  if (!reader.ended() || !possible) return std::nullopt;
  return ::timegm(&parts);
}

}  // namespace evlua::http
