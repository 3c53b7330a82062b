// string.find, match, gmatch and gsub over our own matcher, and format, so that what gsub and format call may wait; all
// else of `string` is stock. Behaviour is stock as well.
#include <lua.hpp>

#include <cctype>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>

#include "lua/callbacks.h"
#include "lua/long_call.h"
#include "lua/modules.h"
#include "lua/pattern.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

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
  PatternMatcher matcher(subject, pattern, look_at_limits);
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
  PatternMatcher matcher(subject, check_bytes(L, lua_upvalueindex(2)), look_at_limits);
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

/// A call of gsub. Its state is in a userdata where it calls back, since the C stack is gone when that has waited.
struct Substitution {
  Substitution(lua_State* L, std::string_view subject, std::string_view pattern) noexcept
      : matcher(subject, pattern, look_at_limits), from(subject.data()) {
    luaL_buffinit(L, &out);
  }

  PatternMatcher matcher;
  const char* from;
  const char* last = nullptr;  // where the last match has ended
  lua_Integer count = 0;
  lua_Integer most = 0;
  bool anchored = false;
  bool in_userdata = false;
  bool busy = false;  // in a userdata: not to be used by another call
  luaL_Buffer out;
};

constexpr int kState = 5;  // where the userdata is, behind the arguments

/// What takes the place of a match, and is on top.
void add_value(lua_State* L, Substitution& call, const char* end) {
  if (lua_toboolean(L, -1) == 0) {
    lua_pop(L, 1);
    lua_pushlstring(L, call.from, static_cast<std::size_t>(end - call.from));
  } else if (lua_isstring(L, -1) == 0) {
    luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  }
  luaL_addvalue(&call.out);
}

int continue_gsub(lua_State* L, int status, lua_KContext end);

/// Upvalue 2: reads from a table, and may wait.
void add_replacement(lua_State* L, Substitution& call, int kind, const char* end) {
  const auto context = reinterpret_cast<lua_KContext>(end);
  if (kind == LUA_TFUNCTION) {
    lua_pushvalue(L, 3);
    lua_callk(L, push_captures(L, call.matcher, call.from, end), 1, context, continue_gsub);
  } else if (kind == LUA_TTABLE && call.in_userdata) {
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 3);
    push_capture(L, call.matcher, 0, call.from, end);
    lua_callk(L, 2, 1, context, continue_gsub);
  } else if (kind == LUA_TTABLE) {
    push_capture(L, call.matcher, 0, call.from, end);
    lua_gettable(L, 3);
  } else {
    add_template(L, call.out, call.matcher, call.from, end);
    return;
  }
  add_value(L, call, end);
}

/// True when there is a match at or behind `from`, which is there then; what is in between has been copied.
bool find_next(lua_State* L, Substitution& call, const char*& end) {
  while (true) {
    if (!call.anchored) {
      const char* next = call.matcher.candidate(call.from);
      if (next == nullptr) return false;
      luaL_addlstring(&call.out, call.from, static_cast<std::size_t>(next - call.from));
      call.from = next;
    }
    end = match_at(L, call.matcher, call.from);
    if (end != nullptr && end != call.last) return true;
    if (call.from >= call.matcher.end()) return false;
    luaL_addchar(&call.out, *call.from++);
    if (call.anchored) return false;
  }
}

int run_gsub(lua_State* L, Substitution& call) {
  const int kind = lua_type(L, 3);
  const char* end = nullptr;
  while (call.count < call.most && find_next(L, call, end)) {
    ++call.count;
    add_replacement(L, call, kind, end);
    call.from = call.last = end;
    if (call.anchored) break;
  }
  luaL_addlstring(&call.out, call.from, static_cast<std::size_t>(call.matcher.end() - call.from));
  luaL_pushresult(&call.out);
  lua_pushinteger(L, call.count);
  return 2;
}

/// Runs to the end in a userdata, which is free then.
int finish_gsub(lua_State* L, Substitution& call) {
  const int results = run_gsub(L, call);
  call.busy = false;
  return results;
}

/// Pushes a userdata for a call: that of the one before, which is upvalue 1; a new one if that call has not ended, or
/// has failed.
void* push_state(lua_State* L) {
  const auto* spare = static_cast<const Substitution*>(lua_touserdata(L, lua_upvalueindex(1)));
  if (spare == nullptr || spare->busy) {
    (void)lua_newuserdata(L, sizeof(Substitution));
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(1));
  } else {
    lua_pushvalue(L, lua_upvalueindex(1));
  }
  return lua_touserdata(L, -1);
}

int continue_gsub(lua_State* L, int, lua_KContext context) {
  auto& call = *static_cast<Substitution*>(lua_touserdata(L, kState));
  const char* end = reinterpret_cast<const char*>(context);
  add_value(L, call, end);
  call.from = call.last = end;
  if (call.anchored) call.most = 0;
  return finish_gsub(L, call);
}

/// gsub(s, pattern, replacement[, n]) -> text, number of replacements. Upvalues: see push_state and
/// add_replacement.
int gsub(lua_State* L) {
  const std::string_view subject = check_bytes(L, 1);
  std::string_view pattern = check_bytes(L, 2);
  const int kind = lua_type(L, 3);
  const lua_Integer most = luaL_optinteger(L, 4, static_cast<lua_Integer>(subject.size()) + 1);
  luaL_argcheck(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
                "string/function/table expected");
  const bool anchored = pattern.starts_with('^');
  if (anchored) pattern.remove_prefix(1);
  const bool calls = kind == LUA_TFUNCTION || (kind == LUA_TTABLE && access_calls(L, 3, kReads));
  lua_settop(L, 4);
  if (!calls) {
    Substitution call(L, subject, pattern);
    call.most = most;
    call.anchored = anchored;
    return run_gsub(L, call);
  }
  auto& call = *new (push_state(L)) Substitution(L, subject, pattern);
  call.most = most;
  call.anchored = anchored;
  call.in_userdata = call.busy = true;
  return finish_gsub(L, call);
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
  push_waiting(L, "index");
  lua_pushcclosure(L, gsub, 2);
  lua_setfield(L, -2, "gsub");
  return 0;
}

}  // namespace evlua::lua
