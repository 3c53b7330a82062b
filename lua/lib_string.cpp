// string.find, match, gmatch and gsub over our own matcher; all else of `string` is stock. Behaviour is stock as well.
#include <lua.hpp>

#include <cctype>
#include <cstring>
#include <string_view>

#include "core/worker.h"
#include "lua/fiber.h"
#include "lua/modules.h"
#include "lua/pattern.h"
#include "lua/slice.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

/// Asked every so often by a match that goes on and on: others may have what waits, and limits are kept.
const char* go_on() noexcept {
  Vm* vm = Slice::clock().vm.load(std::memory_order_relaxed);
  Fiber* fiber = vm != nullptr ? vm->running() : nullptr;
  if (fiber == nullptr) return nullptr;
  Worker::current().offer_work();
  return fiber->check_limits();
}

void raise(lua_State* L, const PatternMatcher& matcher) {
  if (matcher.error() != nullptr) luaL_error(L, matcher.error(), matcher.error_number());
}

const char* match_at(lua_State* L, PatternMatcher& matcher, const char* from) {
  const char* end = matcher.match(from);
  if (end == nullptr && matcher.error() != nullptr) [[unlikely]]
    raise(L, matcher);
  return end;
}

/// Pushes capture `index`; without captures the whole match is the first.
void push_capture(lua_State* L, const PatternMatcher& matcher, int index, const char* start, const char* end) {
  if (index >= matcher.captures()) {
    if (index != 0) luaL_error(L, "invalid capture index %%%d", index + 1);
    lua_pushlstring(L, start, static_cast<std::size_t>(end - start));
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

/// Pushes all captures, or the whole match if there are none and `start` is given.
int push_captures(lua_State* L, const PatternMatcher& matcher, const char* start, const char* end) {
  const int count = matcher.captures() == 0 && start != nullptr ? 1 : matcher.captures();
  luaL_checkstack(L, count, "too many captures");
  for (int i = 0; i < count; ++i) push_capture(L, matcher, i, start, end);
  return count;
}

bool is_plain(std::string_view pattern) noexcept {
  return pattern.find_first_of("^$*+?.([%-") == std::string_view::npos;
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
  const char* from = subject.data() + init - 1;
  if (find && (lua_toboolean(L, 4) != 0 || is_plain(pattern))) {
    const std::size_t place = subject.find(pattern, static_cast<std::size_t>(init - 1));
    if (place == std::string_view::npos) {
      lua_pushnil(L);
      return 1;
    }
    lua_pushinteger(L, static_cast<lua_Integer>(place) + 1);
    lua_pushinteger(L, static_cast<lua_Integer>(place + pattern.size()));
    return 2;
  }
  const bool anchored = pattern.starts_with('^');
  if (anchored) pattern.remove_prefix(1);
  PatternMatcher matcher(subject, pattern, go_on);
  do {
    if (!anchored && (from = matcher.candidate(from)) == nullptr) break;
    const char* end = match_at(L, matcher, from);
    if (end == nullptr) continue;
    if (!find) return push_captures(L, matcher, from, end);
    lua_pushinteger(L, from - subject.data() + 1);
    lua_pushinteger(L, end - subject.data());
    return push_captures(L, matcher, nullptr, nullptr) + 2;
  } while (from++ < matcher.end() && !anchored);
  lua_pushnil(L);
  return 1;
}

int find(lua_State* L) { return find_or_match(L, true); }
int match(lua_State* L) { return find_or_match(L, false); }

/// Upvalues: subject, pattern, where to go on, where the last match ended (-1: there was none).
int next_match(lua_State* L) {
  const std::string_view subject = check_bytes(L, lua_upvalueindex(1));
  PatternMatcher matcher(subject, check_bytes(L, lua_upvalueindex(2)), go_on);
  const char* from = subject.data() + lua_tointeger(L, lua_upvalueindex(3));
  const lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
  for (; from <= matcher.end(); ++from) {
    from = matcher.candidate(from);
    if (from == nullptr) break;
    const char* end = match_at(L, matcher, from);
    if (end == nullptr || end - subject.data() == last) continue;
    lua_pushinteger(L, end - subject.data());
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return push_captures(L, matcher, from, end);
  }
  return 0;
}

int gmatch(lua_State* L) {
  (void)check_bytes(L, 1);
  (void)check_bytes(L, 2);
  lua_settop(L, 2);
  lua_pushinteger(L, 0);
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, next_match, 4);
  return 1;
}

// -- gsub -----------------------------------------------------------------------------------------------------------

/// The replacement string, with %0 to %9 and %% replaced.
void add_template(lua_State* L, luaL_Buffer& out, const PatternMatcher& matcher, const char* start, const char* end) {
  const std::string_view text = check_bytes(L, 3);
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
      luaL_addlstring(&out, start, static_cast<std::size_t>(end - start));
    } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      push_capture(L, matcher, c - '1', start, end);
      luaL_tolstring(L, -1, nullptr);  // a position is a number
      lua_remove(L, -2);
      luaL_addvalue(&out);
    } else {
      luaL_error(L, "invalid use of '%c' in replacement string", '%');
    }
  }
}

/// What takes the place of a match.
void add_replacement(lua_State* L, luaL_Buffer& out, const PatternMatcher& matcher, int kind, const char* start,
                     const char* end) {
  if (kind == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(L, matcher, start, end), 1);
  } else if (kind == LUA_TTABLE) {
    push_capture(L, matcher, 0, start, end);
    lua_gettable(L, 3);
  } else {
    add_template(L, out, matcher, start, end);
    return;
  }
  if (lua_toboolean(L, -1) == 0) {
    lua_pop(L, 1);
    lua_pushlstring(L, start, static_cast<std::size_t>(end - start));
  } else if (lua_isstring(L, -1) == 0) {
    luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  }
  luaL_addvalue(&out);
}

/// gsub(s, pattern, replacement[, n]) -> text, number of replacements
int gsub(lua_State* L) {
  const std::string_view subject = check_bytes(L, 1);
  std::string_view pattern = check_bytes(L, 2);
  const int kind = lua_type(L, 3);
  const lua_Integer most = luaL_optinteger(L, 4, static_cast<lua_Integer>(subject.size()) + 1);
  luaL_argcheck(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
                "string/function/table expected");
  const bool anchored = pattern.starts_with('^');
  if (anchored) pattern.remove_prefix(1);
  PatternMatcher matcher(subject, pattern, go_on);
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  const char* from = subject.data();
  const char* last = nullptr;
  lua_Integer count = 0;
  while (count < most) {
    if (!anchored) {
      const char* next = matcher.candidate(from);
      if (next == nullptr) break;
      luaL_addlstring(&out, from, static_cast<std::size_t>(next - from));
      from = next;
    }
    const char* end = match_at(L, matcher, from);
    if (end != nullptr && end != last) {
      ++count;
      add_replacement(L, out, matcher, kind, from, end);
      from = last = end;
    } else if (from < matcher.end()) {
      luaL_addchar(&out, *from++);
    } else {
      break;
    }
    if (anchored) break;
  }
  luaL_addlstring(&out, from, static_cast<std::size_t>(matcher.end() - from));
  luaL_pushresult(&out);
  lua_pushinteger(L, count);
  return 2;
}

}  // namespace

int open_patterns(lua_State* L) {
  const luaL_Reg functions[] = {
      {"find", find}, {"match", match}, {"gmatch", gmatch}, {"gsub", gsub}, {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
  return 0;
}

}  // namespace evlua::lua
