#include "lua/json_decode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <climits>
#include <cstring>

namespace evlua::lua {

namespace {

constexpr std::uint32_t kObject = UINT32_MAX;
static_assert(std::endian::native == std::endian::little, "the eight bytes of a word are searched from the lowest");

// Powers of ten that a double holds exactly.
constexpr std::array<double, 23> kPowers = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                            1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
constexpr std::uint64_t kExact = std::uint64_t{1} << 53;

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  c = static_cast<char>(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/// Four hexadecimal digits, or -1. Stops at the first byte that is none.
int code_unit(const char* at) noexcept {
  int unit = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_digit(at[i]);
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

char* put_utf8(char* out, int code) noexcept {
  const auto put = [&out](int byte) { *out++ = static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
  return out;
}

/// A number as it stands in the text.
struct Number {
  const char* end = nullptr;  ///< null: it is none
  std::uint64_t digits = 0;   ///< those before and behind the point; wrong if there are more than 19
  int count = 0;              ///< of them
  int fraction = 0;           ///< of them, behind the point
  bool integer = true;
  bool exponent = false;
};

Number parse_number(const char* at) noexcept {
  Number number;
  if (*at == '-') ++at;
  if (!is_digit(*at)) return number;
  const char* const first = at;
  const auto take = [&number, &at] {
    for (; is_digit(*at); ++at) number.digits = number.digits * 10 + static_cast<unsigned>(*at - '0');
  };
  if (*at == '0') {
    ++at;
  } else {
    take();
  }
  number.count = static_cast<int>(std::min<std::ptrdiff_t>(at - first, INT_MAX / 2));
  if (*at == '.') {
    number.integer = false;
    const char* const point = ++at;
    if (!is_digit(*at)) return number;
    take();
    number.fraction = static_cast<int>(std::min<std::ptrdiff_t>(at - point, INT_MAX / 2));
    number.count += number.fraction;
  }
  if ((*at | 0x20) == 'e') {
    number.integer = false;
    number.exponent = true;
    ++at;
    if (*at == '+' || *at == '-') ++at;
    if (!is_digit(*at)) return number;
    while (is_digit(*at)) ++at;
  }
  number.end = at;
  return number;
}

/// Whether a number that no double can hold is too large; else it is so small that it is zero. REQUIRES: its grammar
/// was checked.
bool too_large(const char* at, const char* end) noexcept {
  if (*at == '-') ++at;
  const char* const first = at;
  const char* mantissa_end = at;
  while (mantissa_end != end && (*mantissa_end | 0x20) != 'e') ++mantissa_end;
  const char* const point = std::find(first, mantissa_end, '.');
  const char* const leading = std::find_if(first, mantissa_end, [](char c) { return c >= '1' && c <= '9'; });
  if (leading == mantissa_end) return false;
  // Places of the leading digit above the point; negative below it.
  std::int64_t places = leading < point ? point - leading : point - leading + 1;
  if (mantissa_end != end) {
    const char* digits = mantissa_end + 1;
    if (*digits == '+') ++digits;
    std::int64_t exponent = 0;
    if (std::from_chars(digits, end, exponent).ec != std::errc()) return *digits != '-';
    exponent = std::clamp<std::int64_t>(exponent, -(INT64_C(1) << 40), INT64_C(1) << 40);
    places += exponent;
  }
  return places > 0;
}

class Decoder {
 public:
  Decoder(lua_State* state, std::string_view text, JsonBig big, int array_meta, JsonScanner& scanner)
      : L(state),
        text_(text.data()),
        end_(text.data() + text.size()),
        token_(scanner.tokens()),
        brackets_(scanner.brackets()),
        array_meta_(array_meta),
        big_(big) {}

  lua_State* const L;

  /// Pushes the value; false when there is a fault, and then what is on the stack is of no use.
  bool run();
  const JsonFault& fault() const noexcept { return fault_; }

 private:
  bool value();
  bool stored();
  bool open_array();
  bool open_object();
  bool key();
  bool atom(const char* at);
  bool number(const char* at);
  bool push_integer(const char* at, const Number& number);
  bool push_big(const char* at, const Number& number);
  bool push_float(const char* at, const Number& number);
  bool string(const char* at);
  bool escaped(const char* start, const char* first);
  const char* unescape(const char* at, char*& out);

  bool ends_scalar(const char* at) const noexcept;
  bool fail(const char* what, const char* at) noexcept {
    fault_ = {JsonFault::Kind::invalid, what, static_cast<std::size_t>(at - text_)};
    return false;
  }
  bool unexpected(const char* at) noexcept { return fail(at == end_ ? "unexpected end" : "", at); }
  const char* here() const noexcept { return text_ + *token_; }

  const char* const text_;
  const char* const end_;
  const std::uint32_t* token_;
  JsonBracket* const brackets_;
  const int array_meta_;
  const JsonBig big_;
  bool opened_ = false;              // the last value() was a bracket with something in it
  std::uint32_t open_ = kNoBracket;  // the innermost bracket
  std::uint32_t seen_ = 0;           // brackets so far
  JsonFault fault_;
};

bool Decoder::run() {
  if (*text_ == '\xef') return fail(std::memcmp(text_, "\xef\xbb\xbf", 3) == 0 ? "byte order mark" : "", text_);
  do {
    if (!value()) return false;
    if (opened_) continue;
    if (!stored()) return false;
  } while (open_ != kNoBracket);
  return here() == end_ || fail("something behind the value", here());
}

/// Pushes what begins at the current token: all of a scalar or of an empty bracket, else an empty table.
bool Decoder::value() {
  const char* at = here();
  ++token_;
  opened_ = false;
  switch (*at) {
    case '"': return string(at);
    case '[': return open_array();
    case '{': return open_object();
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return number(at);
    default: return atom(at);
  }
}

/// Puts the complete value on top of the stack where it belongs, and so on for every bracket that closes now.
bool Decoder::stored() {
  while (open_ != kNoBracket) {
    JsonBracket& bracket = brackets_[open_];
    const bool object = bracket.commas == kObject;
    if (object) {
      lua_rawset(L, -3);
    } else {
      lua_rawseti(L, -2, ++bracket.commas);
    }
    const char* at = here();
    ++token_;
    if (*at == ',') return !object || key();
    if (*at != (object ? '}' : ']')) return unexpected(at);
    open_ = bracket.parent;
  }
  return true;
}

bool Decoder::open_array() {
  JsonBracket& bracket = brackets_[seen_++];
  const bool empty = *here() == ']';
  const auto size = static_cast<int>(std::min<std::uint32_t>(empty ? 0 : bracket.commas + 1, INT_MAX));
  lua_createtable(L, size, 0);
  lua_pushvalue(L, array_meta_);
  lua_setmetatable(L, -2);
  if (empty) {
    ++token_;
    return true;
  }
  bracket.commas = 0;  // from here on: elements
  open_ = seen_ - 1;
  return opened_ = true;
}

bool Decoder::open_object() {
  JsonBracket& bracket = brackets_[seen_++];
  const bool empty = *here() == '}';
  lua_createtable(L, 0, static_cast<int>(std::min<std::uint32_t>(empty ? 0 : bracket.commas + 1, INT_MAX)));
  if (empty) {
    ++token_;
    return true;
  }
  bracket.commas = kObject;
  open_ = seen_ - 1;
  opened_ = true;
  return key();
}

bool Decoder::key() {
  const char* at = here();
  if (*at != '"') return at == end_ ? unexpected(at) : fail("a key expected", at);
  if (!string(at)) return false;
  ++token_;
  if (*here() != ':') return here() == end_ ? unexpected(end_) : fail("':' expected", here());
  ++token_;
  return true;
}

bool Decoder::ends_scalar(const char* at) const noexcept {
  switch (*at) {
    case ',':
    case ']':
    case '}':
    case ' ':
    case '\n':
    case '\r':
    case '\t':
    case ':':
    case '[':
    case '{': return true;  // a token of its own, so that whether it may stand here is asked next
    default: return at == end_;
  }
}

bool Decoder::atom(const char* at) {
  const std::string_view rest(at, static_cast<std::size_t>(end_ - at));
  std::size_t size = 4;
  if (rest.substr(0, 4) == "true") {
    lua_pushboolean(L, 1);
  } else if (rest.substr(0, 4) == "null") {
    lua_pushlightuserdata(L, nullptr);
  } else if (rest.substr(0, 5) == "false") {
    lua_pushboolean(L, 0);
    size = 5;
  } else {
    return unexpected(at);
  }
  return ends_scalar(at + size) || unexpected(at + size);
}

bool Decoder::number(const char* at) {
  const Number parsed = parse_number(at);
  if (parsed.end == nullptr || !ends_scalar(parsed.end)) return fail("not a number", at);
  return parsed.integer ? push_integer(at, parsed) : push_float(at, parsed);
}

bool Decoder::push_integer(const char* at, const Number& number) {
  const bool negative = *at == '-';
  const std::uint64_t most = static_cast<std::uint64_t>(LUA_MAXINTEGER) + (negative ? 1 : 0);
  if (number.count > 19 || number.digits > most) return push_big(at, number);
  lua_pushinteger(L, static_cast<lua_Integer>(negative ? 0 - number.digits : number.digits));
  return true;
}

bool Decoder::push_big(const char* at, const Number& number) {
  switch (big_) {
    case JsonBig::as_float: return push_float(at, number);
    case JsonBig::as_string: lua_pushlstring(L, at, static_cast<std::size_t>(number.end - at)); return true;
    case JsonBig::refuse: break;
  }
  return fail("integer of more than 64 bits", at);
}

bool Decoder::push_float(const char* at, const Number& number) {
  const bool negative = *at == '-';
  if (!number.exponent && number.count <= 19 && number.digits <= kExact && number.fraction < 23) {
    const double exact = static_cast<double>(number.digits) / kPowers[static_cast<std::size_t>(number.fraction)];
    lua_pushnumber(L, negative ? -exact : exact);
    return true;
  }
  double parsed = 0;
  if (std::from_chars(at, number.end, parsed).ec == std::errc::result_out_of_range) {
    if (too_large(at, number.end)) return fail("number out of range", at);
    parsed = negative ? -0.0 : 0.0;
  }
  lua_pushnumber(L, parsed);
  return true;
}

/// The first of `"` and `\` from `at` on. There is a quotation mark: stage 1 has seen it.
const char* find_special(const char* at, const char* end) noexcept {
  constexpr std::uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;
  const auto zeros = [](std::uint64_t word) { return (word - kOnes) & ~word & kHighs; };
  while (end - at >= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    const std::uint64_t found = zeros(word ^ kOnes * '"') | zeros(word ^ kOnes * '\\');
    if (found != 0) return at + (std::countr_zero(found) >> 3);
    at += 8;
  }
  while (*at != '"' && *at != '\\') ++at;
  return at;
}

bool Decoder::string(const char* at) {
  const char* const start = at + 1;
  const char* const special = find_special(start, end_);
  if (*special == '\\') return escaped(start, special);
  lua_pushlstring(L, start, static_cast<std::size_t>(special - start));
  return true;
}

/// Pushes a string whose first backslash is at `first`.
bool Decoder::escaped(const char* start, const char* first) {
  const char* stop = first;
  while (*stop == '\\') stop = find_special(stop + 2, end_);
  luaL_Buffer buffer;
  char* const begin = luaL_buffinitsize(L, &buffer, static_cast<std::size_t>(stop - start));
  char* out = begin;
  for (const char* at = start; at != stop;) {
    const auto plain = static_cast<std::size_t>(first - at);
    std::memcpy(out, at, plain);
    out += plain;
    at = first;
    if (at == stop) break;
    at = unescape(at, out);
    if (at == nullptr) return false;
    first = find_special(at, end_);
  }
  luaL_pushresultsize(&buffer, static_cast<std::size_t>(out - begin));
  return true;
}

/// Writes what the escape at `at` means; where it ends, or null.
const char* Decoder::unescape(const char* at, char*& out) {
  constexpr std::string_view kNames = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  if (at[1] != 'u') {
    const std::size_t which = kNames.find(at[1]);
    if (which == std::string_view::npos) {
      fail("unknown escape in a string", at);
      return nullptr;
    }
    *out++ = kMeanings[which];
    return at + 2;
  }
  int code = code_unit(at + 2);
  const char* const start = at;
  at += 6;
  if (code >= 0xd800 && code <= 0xdfff) {
    const int low = code < 0xdc00 && at[0] == '\\' && at[1] == 'u' ? code_unit(at + 2) : -1;
    if (low < 0xdc00 || low > 0xdfff) {
      fail("half of a surrogate pair in a string", start);
      return nullptr;
    }
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    at += 6;
  }
  if (code < 0) {
    fail("unknown escape in a string", start);
    return nullptr;
  }
  out = put_utf8(out, code);
  return at;
}

/// nil, message, code: "not JSON: unexpected ',' at line 1, column 5 (byte 5)"
int push_fault(lua_State* L, std::string_view text, const JsonFault& fault) {
  const std::string_view before = text.substr(0, std::min(fault.at, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t start = before.find_last_of('\n') + 1;
  const unsigned char byte = fault.at < text.size() ? static_cast<unsigned char>(text[fault.at]) : 0;
  const bool limit = fault.kind == JsonFault::Kind::limit;
  lua_pushnil(L);
  const char* what = fault.what;
  if (*what == 0) {
    what = byte > 0x20 && byte < 0x7f ? lua_pushfstring(L, "unexpected '%c'", byte)
                                      : lua_pushfstring(L, "unexpected byte %d", byte);
  }
  lua_pushfstring(L, "%s%s at line %I, column %I (byte %I)", limit ? "JSON: " : "not JSON: ", what,
                  static_cast<lua_Integer>(line), static_cast<lua_Integer>(before.size() - start + 1),
                  static_cast<lua_Integer>(before.size() + 1));
  lua_pushstring(L, limit ? "ELIMIT" : "EINVAL");
  if (*fault.what == 0) lua_remove(L, -3);
  return 3;
}

}  // namespace

int decode_json(lua_State* L, std::string_view text, const JsonDecodeOptions& options, int array_meta,
                JsonScanner& scanner) {
  JsonFault fault = scanner.scan(text, options.depth_max);
  if (fault.kind == JsonFault::Kind::memory) return luaL_error(L, "not enough memory");
  if (fault.kind == JsonFault::Kind::none) {
    // Of each level the table and a key, on top a value and what it is made of.
    luaL_checkstack(L, static_cast<int>(scanner.depth()) * 2 + 8, "JSON nested too deeply");
    Decoder decoder(L, text, options.big, lua_absindex(L, array_meta), scanner);
    if (decoder.run()) return 1;
    fault = decoder.fault();
  }
  return push_fault(L, text, fault);
}

}  // namespace evlua::lua
