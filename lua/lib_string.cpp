// string.find, match, gmatch and gsub over our own matcher, and format, so that what gsub and format call may wait; all
// else of `string` is stock. Behaviour is stock as well.
#include <lua.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>

#include "lua/callbacks.h"
#include "lua/long_call.h"
#include "lua/modules.h"
#include "lua/pattern.h"
#include "lua/spare.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

/// Until the search is over. Where others wait they have their turn first, and `again` goes on with the matcher, which
/// is copied into a userdata on top if it is not `kept`.
PatternMatcher::Result finish_search(lua_State* L, PatternMatcher& matcher, PatternMatcher::Result result, bool kept,
                                     lua_KContext context, lua_KFunction again) {
  while (result == PatternMatcher::Result::paused) {
    if (slice_is_over(L)) {
      if (!kept) new (lua_newuserdata(L, sizeof(PatternMatcher))) PatternMatcher(matcher);
      give_way(L, context, again);
    }
    result = matcher.go_on();
  }
  if (matcher.error() != nullptr) luaL_error(L, matcher.error(), matcher.error_number());
  return result;
}

PatternMatcher& kept_matcher(lua_State* L) { return *static_cast<PatternMatcher*>(lua_touserdata(L, -1)); }

/// Pushes capture `index`; without captures the whole match is the first.
void push_capture(lua_State* L, const PatternMatcher& matcher, int index) {
  if (index >= matcher.captures()) {
    if (index != 0) luaL_error(L, "invalid capture index %%%d", index + 1);
    lua_pushlstring(L, matcher.start(), static_cast<std::size_t>(matcher.stop() - matcher.start()));
    return;
  }
  const PatternMatcher::Capture& capture = matcher.capture(index);
  if (PatternMatcher::is_open(capture)) luaL_error(L, "unfinished capture");
  if (capture.size == PatternMatcher::kPosition) {
    lua_pushinteger(L, capture.start - matcher.begin() + 1);
  } else {
    lua_pushlstring(L, capture.start, static_cast<std::size_t>(capture.size));
  }
}

int push_captures(lua_State* L, const PatternMatcher& matcher) {
  luaL_checkstack(L, matcher.captures(), "too many captures");
  for (int i = 0; i < matcher.captures(); ++i) push_capture(L, matcher, i);
  return matcher.captures();
}

/// All captures, or the whole match if there are none.
int push_match(lua_State* L, const PatternMatcher& matcher) {
  if (matcher.captures() != 0) return push_captures(L, matcher);
  push_capture(L, matcher, 0);
  return 1;
}

/// Where `text` is in `subject`, or null. Looking for its first byte is fastest as long as that is rare; memmem takes
/// time in proportion to the subject, whatever the two are.
const char* find_text(std::string_view text, std::string_view subject) noexcept {
  constexpr int kTries = 32;
  if (text.empty()) return subject.data();
  for (int i = 0; i < kTries && subject.size() >= text.size(); ++i) {
    const void* found = std::memchr(subject.data(), text.front(), subject.size() - text.size() + 1);
    if (found == nullptr) return nullptr;
    const char* place = static_cast<const char*>(found);
    if (std::memcmp(place, text.data(), text.size()) == 0) return place;
    subject.remove_prefix(static_cast<std::size_t>(place - subject.data()) + 1);
  }
  return static_cast<const char*>(::memmem(subject.data(), subject.size(), text.data(), text.size()));
}

constexpr auto kSpecial = [] {
  std::array<bool, 256> special{};
  for (const char c : std::string_view("^$*+?.([%-")) special[static_cast<unsigned char>(c)] = true;
  return special;
}();

bool is_plain(std::string_view pattern) noexcept {
  return std::ranges::none_of(pattern, [](char c) { return kSpecial[static_cast<unsigned char>(c)]; });
}

int continue_find(lua_State* L, int status, lua_KContext find);

int finish_find(lua_State* L, PatternMatcher& matcher, PatternMatcher::Result result, bool kept, bool find) {
  result = finish_search(L, matcher, result, kept, static_cast<lua_KContext>(find), continue_find);
  if (result == PatternMatcher::Result::none) {
    lua_pushnil(L);
    return 1;
  }
  if (!find) return push_match(L, matcher);
  lua_pushinteger(L, matcher.start() - matcher.begin() + 1);
  lua_pushinteger(L, matcher.stop() - matcher.begin());
  return push_captures(L, matcher) + 2;
}

int continue_find(lua_State* L, int, lua_KContext find) {
  return finish_find(L, kept_matcher(L), PatternMatcher::Result::paused, true, find != 0);
}

/// find(s, pattern[, init[, plain]]), match(s, pattern[, init])
int find_or_match(lua_State* L, bool find) {
  const std::string_view subject = check_bytes(L, 1);
  std::string_view pattern = check_bytes(L, 2);
  lua_Integer init = luaL_optinteger(L, 3, 1);
  const auto size = static_cast<lua_Integer>(subject.size());
  if (init < 0) init = -init > size ? 1 : size + init + 1;
  if (init == 0) init = 1;
  if (init > size + 1) {
    lua_pushnil(L);
    return 1;
  }
  if (find && (lua_toboolean(L, 4) != 0 || is_plain(pattern))) {
    const char* place = find_text(pattern, subject.substr(static_cast<std::size_t>(init - 1)));
    if (place == nullptr) {
      lua_pushnil(L);
      return 1;
    }
    lua_pushinteger(L, place - subject.data() + 1);
    lua_pushinteger(L, place - subject.data() + static_cast<lua_Integer>(pattern.size()));
    return 2;
  }
  const bool anchored = pattern.starts_with('^');
  if (anchored) pattern.remove_prefix(1);
  PatternMatcher matcher(subject, pattern);
  return finish_find(L, matcher, matcher.search(subject.data() + init - 1, anchored), false, find);
}

int find(lua_State* L) { return find_or_match(L, true); }
int match(lua_State* L) { return find_or_match(L, false); }

int continue_next(lua_State* L, int status, lua_KContext context);

int finish_next(lua_State* L, PatternMatcher& matcher, PatternMatcher::Result result, bool kept) {
  result = finish_search(L, matcher, result, kept, lua_tointeger(L, lua_upvalueindex(3)), continue_next);
  if (result == PatternMatcher::Result::none) return 0;
  lua_pushinteger(L, matcher.stop() - matcher.begin());
  lua_replace(L, lua_upvalueindex(3));
  return push_match(L, matcher);
}

int next_match(lua_State* L);

int continue_next(lua_State* L, int, lua_KContext last) {
  // Others have called it meanwhile: what they have had is not found once more.
  if (lua_tointeger(L, lua_upvalueindex(3)) != last) {
    lua_settop(L, 0);
    return next_match(L);
  }
  return finish_next(L, kept_matcher(L), PatternMatcher::Result::paused, true);
}

/// Upvalues: subject, pattern, where the last match ended (-1: there was none).
int next_match(lua_State* L) {
  const std::string_view subject = check_bytes(L, lua_upvalueindex(1));
  const lua_Integer last = lua_tointeger(L, lua_upvalueindex(3));
  const char* const from = subject.data() + std::max(last, lua_Integer{0});
  PatternMatcher matcher(subject, check_bytes(L, lua_upvalueindex(2)));
  return finish_next(L, matcher, matcher.search(from, false, last < 0 ? nullptr : from), false);
}

int gmatch(lua_State* L) {
  (void)check_bytes(L, 1);
  (void)check_bytes(L, 2);
  lua_settop(L, 2);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, next_match, 3);
  return 1;
}

// -- gsub -----------------------------------------------------------------------------------------------------------

/// A call of gsub. In a userdata, since the C stack is gone when it has waited.
struct Substitution {
  Substitution(lua_State* L, std::string_view subject, std::string_view pattern) noexcept
      : matcher(subject, pattern), from(subject.data()) {
    luaL_buffinit(L, &out);
  }

  PatternMatcher matcher;
  const char* from;            // behind what has been copied
  const char* last = nullptr;  // where the last match has ended
  lua_Integer count = 0;
  lua_Integer most = 0;
  bool anchored = false;
  bool busy = true;  // not to be used by another call
  luaL_Buffer out;
};

constexpr int kState = 5;  // where the userdata is, behind the arguments

Substitution& state_of_call(lua_State* L) { return *static_cast<Substitution*>(lua_touserdata(L, kState)); }

/// The replacement string, with %0 to %9 and %% replaced.
void add_template(lua_State* L, Substitution& call) {
  const std::string_view text = check_bytes(L, 3);
  luaL_Buffer& out = call.out;
  call.matcher.add_steps(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t escape = text.find('%', i);
    const std::size_t plain = escape == std::string_view::npos ? text.size() : escape;
    luaL_addlstring(&out, text.data() + i, plain - i);
    if (plain == text.size()) return;
    i = plain + 1;
    const char c = i < text.size() ? text[i] : '\0';
    if (c == '%') {
      luaL_addchar(&out, '%');
    } else if (c == '0') {
      luaL_addlstring(&out, call.matcher.start(), static_cast<std::size_t>(call.matcher.stop() - call.matcher.start()));
    } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      push_capture(L, call.matcher, c - '1');
      luaL_tolstring(L, -1, nullptr);  // a position is a number
      lua_remove(L, -2);
      luaL_addvalue(&out);
    } else {
      luaL_error(L, "invalid use of '%c' in replacement string", '%');
    }
  }
}

/// What takes the place of a match, and is on top.
void add_value(lua_State* L, Substitution& call) {
  if (lua_toboolean(L, -1) == 0) {
    lua_pop(L, 1);
    lua_pushlstring(L, call.matcher.start(), static_cast<std::size_t>(call.matcher.stop() - call.matcher.start()));
  } else if (lua_isstring(L, -1) == 0) {
    luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  }
  luaL_addvalue(&call.out);
}

PatternMatcher::Result next_to_replace(Substitution& call) noexcept {
  if (call.count >= call.most) return PatternMatcher::Result::none;
  return call.matcher.search(call.from, call.anchored, call.last);
}

int continue_with_value(lua_State* L, int status, lua_KContext context);

void add_replacement(lua_State* L, Substitution& call, int kind) {
  if (kind == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_callk(L, push_match(L, call.matcher), 1, 0, continue_with_value);
  } else if (kind == LUA_TTABLE) {
    push_capture(L, call.matcher, 0);
    evlua_get_field(L, 3, 0, continue_with_value);
  } else {
    add_template(L, call);
    return;
  }
  add_value(L, call);
}

void move_behind_match(Substitution& call) noexcept {
  call.from = call.last = call.matcher.stop();
  if (call.anchored) call.most = 0;
}

int continue_search(lua_State* L, int status, lua_KContext context);

int run_gsub(lua_State* L, Substitution& call, PatternMatcher::Result result) {
  const int kind = lua_type(L, 3);
  while (finish_search(L, call.matcher, result, true, 0, continue_search) == PatternMatcher::Result::found) {
    luaL_addlstring(&call.out, call.from, static_cast<std::size_t>(call.matcher.start() - call.from));
    ++call.count;
    add_replacement(L, call, kind);
    move_behind_match(call);
    result = next_to_replace(call);
  }
  luaL_addlstring(&call.out, call.from, static_cast<std::size_t>(call.matcher.end() - call.from));
  luaL_pushresult(&call.out);
  lua_pushinteger(L, call.count);
  call.busy = false;
  return 2;
}

int continue_search(lua_State* L, int, lua_KContext) {
  return run_gsub(L, state_of_call(L), PatternMatcher::Result::paused);
}

int continue_with_value(lua_State* L, int, lua_KContext) {
  Substitution& call = state_of_call(L);
  add_value(L, call);
  move_behind_match(call);
  return run_gsub(L, call, next_to_replace(call));
}

/// gsub(s, pattern, replacement[, n]) -> text, number of replacements. Upvalue: see push_spare.
int gsub(lua_State* L) {
  const std::string_view subject = check_bytes(L, 1);
  std::string_view pattern = check_bytes(L, 2);
  const int kind = lua_type(L, 3);
  const lua_Integer most = luaL_optinteger(L, 4, static_cast<lua_Integer>(subject.size()) + 1);
  luaL_argcheck(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
                "string/function/table expected");
  const bool anchored = pattern.starts_with('^');
  if (anchored) pattern.remove_prefix(1);
  lua_settop(L, 4);
  auto& call = *new (push_spare<Substitution>(L)) Substitution(L, subject, pattern);
  call.most = most;
  call.anchored = anchored;
  return run_gsub(L, call, next_to_replace(call));
}

// -- format ---------------------------------------------------------------------------------------------------------

lua_CFunction stock_format = nullptr;

/// Whether the argument at `index` is for a %s.
bool becomes_string(std::string_view format, int index) noexcept {
  int argument = 1;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') continue;
    if (++i < format.size() && format[i] == '%') continue;
    i = format.find_first_not_of("-+ #0123456789.", i);
    if (i == std::string_view::npos) return false;
    if (++argument == index) return format[i] == 's';
  }
  return false;
}

int format_from(lua_State* L, int index);

int continue_format(lua_State* L, int, lua_KContext index) {
  if (lua_isstring(L, -1) == 0) return luaL_error(L, "'__tostring' must return a string");
  lua_replace(L, static_cast<int>(index));
  return format_from(L, static_cast<int>(index) + 1);
}

/// Makes strings of the arguments from `index` on whose __tostring would be called. Then all is as in stock Lua.
int format_from(lua_State* L, int index) {
  for (const int last = lua_gettop(L); index <= last; ++index) {
    const int type = lua_type(L, index);
    if (type != LUA_TTABLE && type != LUA_TUSERDATA) continue;
    if (luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) continue;
    if (lua_type(L, 1) != LUA_TSTRING || !becomes_string(check_bytes(L, 1), index)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, index);
    lua_callk(L, 1, 1, index, continue_format);
    return continue_format(L, LUA_OK, index);
  }
  return stock_format(L);
}

int format(lua_State* L) { return format_from(L, 2); }

// -- rep ------------------------------------------------------------------------------------------------------------

lua_CFunction stock_rep = nullptr;

/// Stock, but for nothing many times, which no limit of memory bounds.
int rep(lua_State* L) {
  std::size_t size = 0;
  std::size_t between = 0;
  luaL_checklstring(L, 1, &size);
  luaL_checkinteger(L, 2);
  luaL_optlstring(L, 3, "", &between);
  if (size != 0 || between != 0) return stock_rep(L);
  lua_pushliteral(L, "");
  return 1;
}

}  // namespace

int open_patterns(lua_State* L) {
  const luaL_Reg functions[] = {{"find", find},     {"match", match}, {"gmatch", gmatch},
                                {"format", format}, {"rep", rep},     {nullptr, nullptr}};
  static std::once_flag once;
  lua_getfield(L, -1, "format");
  lua_getfield(L, -2, "rep");
  std::call_once(once, [L] {  // the same in every state
    stock_format = lua_tocfunction(L, -2);
    stock_rep = lua_tocfunction(L, -1);
  });
  lua_pop(L, 2);
  luaL_setfuncs(L, functions, 0);
  lua_pushnil(L);
  lua_pushcclosure(L, gsub, 1);
  lua_setfield(L, -2, "gsub");
  return 0;
}

}  // namespace evlua::lua
