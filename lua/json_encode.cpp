#include "lua/json_encode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "lua/json_scan.h"

namespace evlua::lua {

namespace {

constexpr std::size_t kKept = std::size_t{1} << 20;
constexpr std::size_t kNumberMax = 32;  // characters of a number and what stands around it
constexpr std::size_t kPathMax = 200;

/// Reallocates; collects garbage if there is no memory, then raises.
void* resize(lua_State* L, void* block, std::size_t old_size, std::size_t new_size) {
  void* context = nullptr;
  const lua_Alloc allocate = lua_getallocf(L, &context);
  void* moved = allocate(context, block, old_size, new_size);
  if (moved == nullptr) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    moved = allocate(context, block, old_size, new_size);
  }
  if (moved == nullptr) luaL_error(L, "not enough memory");
  return moved;
}

/// A value inside of a character class for each byte: what stands for it behind a backslash, or 0.
constexpr std::array<char, 256> make_escapes() {
  std::array<char, 256> escapes{};
  for (std::size_t i = 0; i < 0x20; ++i) escapes[i] = 'u';
  escapes['\b'] = 'b';
  escapes['\t'] = 't';
  escapes['\n'] = 'n';
  escapes['\f'] = 'f';
  escapes['\r'] = 'r';
  escapes['"'] = '"';
  escapes['\\'] = '\\';
  return escapes;
}
constexpr std::array<char, 256> kEscapes = make_escapes();

constexpr std::uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;

/// A bit for each byte that has to be escaped; may have one for the byte above such a one, too.
std::uint64_t special_bytes(std::uint64_t word) noexcept {
  const auto zeros = [](std::uint64_t bytes) { return (bytes - kOnes) & ~bytes & kHighs; };
  return zeros(word ^ kOnes * '"') | zeros(word ^ kOnes * '\\') | ((word - kOnes * 0x20) & ~word & kHighs);
}

const char* type_of_key(lua_State* L, int index) {
  if (lua_type(L, index) != LUA_TNUMBER) return luaL_typename(L, index);
  return lua_isinteger(L, index) != 0 ? "integer" : "float";
}

class Encoder {
 public:
  Encoder(lua_State* state, const JsonEncodeOptions& options, int array_meta, JsonMemory& memory)
      : L(state), options_(options), array_meta_(array_meta), memory_(memory) {}

  lua_State* const L;

  /// Writes the value on top of the stack, which stays there; false when there is a fault.
  bool value();
  int push_fault();

 private:
  bool table();
  bool array();
  bool rest_of_array(lua_Integer done);
  bool check_sequence();
  bool object();
  bool sorted_object();
  lua_Integer collect_keys();
  bool member(int key);
  bool number();
  bool string(int index);
  void escape(const char* text, std::size_t size);
  bool enter(const void* self);

  // Apart, so that its buffers are not on the stack at every level.
  [[gnu::noinline, gnu::format(printf, 3, 4)]] bool fail(const char* code, const char* format, ...);
  void write_path(char* out) const noexcept;

  void need(std::size_t size) {
    if (memory_.capacity - memory_.size < size) [[unlikely]]
      grow(size);
  }
  void grow(std::size_t size);
  void put(char c) {
    need(1);
    memory_.text[memory_.size++] = c;
  }
  void put(std::string_view text) {
    need(text.size());
    std::memcpy(memory_.text + memory_.size, text.data(), text.size());
    memory_.size += text.size();
  }
  void separate(bool first) {
    if (!first) put(',');
    if (options_.indent != 0) break_line();
  }
  void close(char bracket) {
    --depth_;
    if (options_.indent != 0) break_line();
    put(bracket);
  }
  void break_line();

  const JsonEncodeOptions& options_;
  const int array_meta_;
  JsonMemory& memory_;
  std::uint32_t depth_ = 0;
  const char* code_ = "";
  char what_[80] = "";
  char path_[kPathMax] = "";
};

bool Encoder::value() {
  switch (lua_type(L, -1)) {
    case LUA_TNIL: put("null"); return true;
    case LUA_TBOOLEAN: put(lua_toboolean(L, -1) != 0 ? "true" : "false"); return true;
    case LUA_TNUMBER: return number();
    case LUA_TSTRING: return string(-1);
    case LUA_TTABLE: return table();
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, -1) != nullptr) break;
      put("null");
      return true;
    default: break;
  }
  return fail("EINVAL", "a %s has no form in JSON", luaL_typename(L, -1));
}

bool Encoder::number() {
  need(kNumberMax);
  char* const start = memory_.text + memory_.size;
  char* const limit = start + kNumberMax;
  char* end = start;
  if (lua_isinteger(L, -1) != 0) {
    end = std::to_chars(start, limit, lua_tointeger(L, -1)).ptr;
  } else {
    const double number = lua_tonumber(L, -1);
    if (!std::isfinite(number)) return fail("EINVAL", "%s has no form in JSON", std::isnan(number) ? "nan" : "inf");
    end = std::to_chars(start, limit, number).ptr;
    // What looks like an integer would come back as one.
    if (std::all_of(start, end, [](char c) { return c == '-' || (c >= '0' && c <= '9'); })) {
      *end++ = '.';
      *end++ = '0';
    }
  }
  memory_.size = static_cast<std::size_t>(end - memory_.text);
  return true;
}

bool Encoder::string(int index) {
  std::size_t size = 0;
  const char* text = lua_tolstring(L, index, &size);
  need(size + 2);
  char* out = memory_.text + memory_.size;
  *out++ = '"';
  // As long as nothing is to be escaped, a copy of words; what they have in common tells whether it is all ASCII.
  std::uint64_t all = 0;
  std::size_t at = 0;
  for (; size - at >= 8; at += 8) {
    std::uint64_t word;
    std::memcpy(&word, text + at, sizeof word);
    if (special_bytes(word) != 0) break;
    all |= word;
    std::memcpy(out + at, &word, sizeof word);
  }
  if (size - at < 8) {
    for (; at < size && kEscapes[static_cast<unsigned char>(text[at])] == 0; ++at) {
      all |= static_cast<unsigned char>(text[at]);
      out[at] = text[at];
    }
  }
  memory_.size += 1 + at;
  if (at != size || (all & kHighs) != 0) {
    const std::size_t bad = find_invalid_utf8({text, size});
    if (bad != std::string_view::npos) {
      return fail("EINVAL", "a string that is not UTF-8 (byte %zu)", bad + 1);
    }
    escape(text + at, size - at);
  }
  put('"');
  return true;
}

void Encoder::escape(const char* text, std::size_t size) {
  constexpr const char* kDigits = "0123456789abcdef";
  for (std::size_t at = 0; at < size;) {
    const std::size_t start = at;
    while (at < size && kEscapes[static_cast<unsigned char>(text[at])] == 0) ++at;
    put({text + start, at - start});
    if (at == size) return;
    const auto byte = static_cast<unsigned char>(text[at++]);
    put('\\');
    put(kEscapes[byte]);
    if (kEscapes[byte] == 'u') {
      const char digits[] = {'0', '0', kDigits[byte >> 4], kDigits[byte & 15]};
      put({digits, sizeof digits});
    }
  }
}

// -- tables ---------------------------------------------------------------------------------------------------------

bool Encoder::enter(const void* self) {
  const JsonStep* const steps = memory_.steps;
  for (std::uint32_t i = depth_; i-- > 0;) {
    if (steps[i].table == self) return fail("EINVAL", "cycle");
  }
  if (depth_ == options_.depth_max) return fail("ELIMIT", "nested too deeply");
  if (depth_ == memory_.steps_capacity) {
    const std::size_t capacity = std::max<std::size_t>(memory_.steps_capacity * 2, 16);
    memory_.steps = static_cast<JsonStep*>(
        resize(L, memory_.steps, memory_.steps_capacity * sizeof(JsonStep), capacity * sizeof(JsonStep)));
    memory_.steps_capacity = capacity;
  }
  memory_.steps[depth_++] = {self, 0, 0};
  return true;
}

/// An array is what carries the mark, or has an integer among its keys; {} is an object.
bool Encoder::table() {
  if (!enter(lua_topointer(L, -1))) return false;
  luaL_checkstack(L, 8, "JSON nested too deeply");
  bool is_array = false;
  if (lua_getmetatable(L, -1) != 0) {
    is_array = lua_rawequal(L, -1, array_meta_) != 0;
    lua_pop(L, 1);
  }
  lua_pushnil(L);
  if (lua_next(L, -2) == 0) {
    put(is_array ? "[]" : "{}");
    --depth_;
    return true;
  }
  if (is_array || lua_isinteger(L, -2) != 0) return array();
  if (!options_.sort_keys) return object();
  lua_pop(L, 2);
  return sorted_object();
}

/// REQUIRES: on the stack are the table, its first key and value.
bool Encoder::array() {
  put('[');
  lua_Integer done = 0;
  do {
    // Elements come in their order, unless they are in the table's hash part.
    if (lua_isinteger(L, -2) == 0 || lua_tointeger(L, -2) != done + 1) {
      lua_pop(L, 2);
      if (!check_sequence() || !rest_of_array(done)) return false;
      close(']');
      return true;
    }
    memory_.steps[depth_ - 1].index = ++done;
    separate(done == 1);
    if (!value()) return false;
    lua_pop(L, 1);
  } while (lua_next(L, -2) != 0);
  close(']');
  return true;
}

bool Encoder::rest_of_array(lua_Integer done) {
  while (lua_rawgeti(L, -1, done + 1) != LUA_TNIL) {
    memory_.steps[depth_ - 1].index = ++done;
    separate(done == 1);
    if (!value()) return false;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return true;
}

/// Whether the keys of the table on top are the integers from 1 to their number.
bool Encoder::check_sequence() {
  lua_Integer count = 0, last = 0;
  memory_.steps[depth_ - 1].index = 0;
  for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
    if (lua_isinteger(L, -2) == 0) {
      --depth_;  // the fault is the table's
      return fail("EINVAL", "an array with a key that is a %s", type_of_key(L, -2));
    }
    const lua_Integer key = lua_tointeger(L, -2);
    if (key < 1) last = LUA_MAXINTEGER;
    last = std::max(last, key);
    ++count;
  }
  if (last == count) return true;
  --depth_;
  return fail("EINVAL", "an array with holes (integer keys must be 1, 2, 3, ...)");
}

/// Writes the name of a member and its value, which is on top of the stack.
bool Encoder::member(int key) {
  memory_.steps[depth_ - 1].key = lua_absindex(L, key);
  if (lua_type(L, key) != LUA_TSTRING) {
    --depth_;  // the fault is the table's
    return fail("EINVAL", "an object with a key that is a %s", type_of_key(L, key));
  }
  if (!string(key)) return false;
  put(':');
  if (options_.indent != 0) put(' ');
  return value();
}

/// REQUIRES: on the stack are the table, its first key and value.
bool Encoder::object() {
  put('{');
  bool first = true;
  do {
    separate(first);
    first = false;
    if (!member(-2)) return false;
    lua_pop(L, 1);
  } while (lua_next(L, -2) != 0);
  close('}');
  return true;
}

/// Pushes a list of the keys of the table on top, which must be strings; 0 if one is not, and then pushes that.
lua_Integer Encoder::collect_keys() {
  lua_Integer count = 0;
  for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
    ++count;
    if (lua_type(L, -2) == LUA_TSTRING) continue;
    lua_pop(L, 1);
    return 0;
  }
  lua_createtable(L, static_cast<int>(std::min<lua_Integer>(count, INT32_MAX)), 0);
  count = 0;
  lua_pushnil(L);
  while (lua_next(L, -3) != 0) {
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, ++count);
  }
  return count;
}

struct SortedKey {
  const char* text;
  std::size_t size;
  lua_Integer index;
};

/// REQUIRES: the table is on top, and not empty.
bool Encoder::sorted_object() {
  const lua_Integer count = collect_keys();
  if (count == 0) return member(-1);
  auto* const keys = static_cast<SortedKey*>(lua_newuserdata(L, static_cast<std::size_t>(count) * sizeof(SortedKey)));
  for (lua_Integer i = 0; i < count; ++i) {
    lua_rawgeti(L, -2, i + 1);
    keys[i].text = lua_tolstring(L, -1, &keys[i].size);  // the list keeps it alive
    keys[i].index = i + 1;
    lua_pop(L, 1);
  }
  std::sort(keys, keys + count, [](const SortedKey& a, const SortedKey& b) {
    return std::string_view(a.text, a.size) < std::string_view(b.text, b.size);
  });
  put('{');
  for (lua_Integer i = 0; i < count; ++i) {
    separate(i == 0);
    lua_rawgeti(L, -2, keys[i].index);
    lua_pushvalue(L, -1);
    lua_rawget(L, -5);
    if (!member(-2)) return false;
    lua_pop(L, 2);
  }
  lua_pop(L, 2);
  close('}');
  return true;
}

// -- the text -------------------------------------------------------------------------------------------------------

void Encoder::grow(std::size_t size) {
  const std::size_t capacity = std::max({memory_.size + size, memory_.capacity * 2, std::size_t{1024}});
  memory_.text = static_cast<char*>(resize(L, memory_.text, memory_.capacity, capacity));
  memory_.capacity = capacity;
}

void Encoder::break_line() {
  const std::size_t spaces = std::size_t{options_.indent} * depth_;
  need(spaces + 1);
  memory_.text[memory_.size] = '\n';
  std::memset(memory_.text + memory_.size + 1, ' ', spaces);
  memory_.size += spaces + 1;
}

// -- faults ---------------------------------------------------------------------------------------------------------

/// ".name", or what is no identifier as ["a name"]; long ones are cut.
void write_name(char* out, std::size_t room, const char* text) {
  char name[41] = "";
  std::snprintf(name, sizeof name, "%s", text);
  const std::size_t bad = find_invalid_utf8(name);
  const bool valid = bad == std::string_view::npos || bad + 4 >= sizeof name;
  if (bad != std::string_view::npos && valid) name[bad] = 0;  // in the middle of a character
  bool plain = *name != 0;
  for (char* c = name; *c != 0; ++c) {
    const auto byte = static_cast<unsigned char>(*c);
    plain = plain && (std::isalnum(byte) != 0 || byte == '_');
    if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !valid)) *c = '?';
  }
  std::snprintf(out, room, plain ? ".%s" : "[\"%s\"]", name);
}

bool Encoder::fail(const char* code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what_, sizeof what_, format, arguments);
  va_end(arguments);
  code_ = code;
  write_path(path_);
  return false;
}

/// ".users[3].parent"; long ones are cut.
void Encoder::write_path(char* out) const noexcept {
  std::size_t size = 0;
  for (std::uint32_t i = 0; i < depth_; ++i) {
    const JsonStep& step = memory_.steps[i];
    char part[64];
    if (step.key == 0) {
      if (step.index == 0) break;
      std::snprintf(part, sizeof part, "[%lld]", static_cast<long long>(step.index));
    } else {
      write_name(part, sizeof part, lua_tostring(L, step.key));
    }
    const std::size_t length = std::strlen(part);
    if (size + length + 4 > kPathMax) {
      std::memcpy(out + size, "...", 4);
      return;
    }
    std::memcpy(out + size, part, length + 1);
    size += length;
  }
}

int Encoder::push_fault() {
  lua_pushnil(L);
  if (*path_ != 0) {
    lua_pushfstring(L, "at %s: %s", path_, what_);
  } else {
    lua_pushstring(L, what_);
  }
  lua_pushstring(L, code_);
  return 3;
}

}  // namespace

void JsonMemory::release(lua_State* L) noexcept {
  void* context = nullptr;
  const lua_Alloc allocate = lua_getallocf(L, &context);
  if (text != nullptr) allocate(context, text, capacity, 0);
  if (steps != nullptr) allocate(context, steps, steps_capacity * sizeof(JsonStep), 0);
  *this = {};
}

void JsonMemory::trim(lua_State* L) noexcept {
  if (capacity + steps_capacity * sizeof(JsonStep) > kKept) release(L);
}

int encode_json(lua_State* L, int index, const JsonEncodeOptions& options, int array_meta, JsonMemory& memory) {
  memory.size = 0;
  array_meta = lua_absindex(L, array_meta);
  lua_pushvalue(L, index);
  Encoder encoder(L, options, array_meta, memory);
  if (!encoder.value()) return encoder.push_fault();
  lua_pushlstring(L, memory.text, memory.size);
  return 1;
}

}  // namespace evlua::lua
