// Our string.find, match, gmatch and gsub against those of stock Lua: random patterns, the same results and errors.
#include "lua/pattern.h"

#include <lua.hpp>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/check.h"
#include "lua/modules.h"
#include "tests/support/doctest.h"

namespace {

using evlua::lua::PatternMatcher;

constexpr const char* kScript = R"lua(
local seed, n = ...
local results = {}
local state = seed
local function random(k)
  state = (state * 1103515245 + 12345) % 2147483648
  return (state // 65536) % k + 1
end
local pieces = {
  "a", "b", "c", ".", "%a", "%d", "%s", "%w", "%u", "%p", "%x", "%l", "%c", "%g", "%A", "%S", "[abc]", "[^a]", "[a-c]",
  "[%d_]", "[]]", "[^]]", "[a-]", "[%a-z]", "a*", "b+", ".-", ".*", "%d*", "[ab]*", "c?", "%s?", "(", ")", "()", "^",
  "$", "%", "%%", "%b()", "%bab", "%f[%w]", "%f[^a]", "%f", "%1", "%2", "%b", "[", "]", "[^", "-", "*", "+", "?", "\0",
  "x", "1", " ", "%z", "(a*)", "(.-)", "(%w+)",
}
local chars = {"a", "b", "c", "A", "1", " ", "(", ")", "_", "\0", "x", ".", "%", "]", "-", "\255"}
local reps = {"x", "%0", "%1", "%2", "<%0>", "%%", "%", "%a", "", "\0", "%1%1"}
local function make(list, max)
  local t = {}
  for i = 1, random(max + 1) - 1 do t[i] = list[random(#list)] end
  return table.concat(t)
end
local function show(...)
  local t = table.pack(...)
  for i = 1, t.n do t[i] = type(t[i]) == "string" and ("%q"):format(t[i]) or tostring(t[i]) end
  return table.concat(t, ",")
end
local function collect(s, p)
  local t = {}
  for a, b, c in string.gmatch(s, p) do t[#t + 1] = show(a, b, c) end
  return table.concat(t, ";")
end
local function several(...) if select("#", ...) > 1 then return show(...) end end
for i = 1, n do
  local s, p = make(chars, 14), make(pieces, 6)
  local init = random(5) == 1 and random(20) - 10 or nil
  local op = random(6)
  local r
  if op == 1 then r = show(pcall(string.find, s, p, init))
  elseif op == 2 then r = show(pcall(string.match, s, p, init))
  elseif op == 3 then
    r = show(pcall(string.gsub, s, p, reps[random(#reps)], random(4) == 1 and random(4) - 1 or nil))
  elseif op == 4 then r = show(pcall(string.gsub, s, p, several))
  elseif op == 5 then r = show(pcall(collect, s, p))
  else r = show(pcall(string.find, s, p, init, random(2) == 1)) end
  results[#results + 1] = ("%q, %q, %s: %s"):format(s, p, init, r)
end
return table.concat(results, "\n")
)lua";

struct Close {
  void operator()(lua_State* L) const { lua_close(L); }
};
using State = std::unique_ptr<lua_State, Close>;

State make_state(bool ours) {
  State state(luaL_newstate());
  lua_State* L = state.get();
  luaL_openlibs(L);
  if (!ours) return state;
  lua_getglobal(L, "string");
  evlua::lua::open_patterns(L);
  lua_pop(L, 1);
  return state;
}

/// What the script returns, by lines.
std::vector<std::string> results_of(lua_State* L, lua_Integer seed, lua_Integer count) {
  REQUIRE(luaL_loadbufferx(L, kScript, std::char_traits<char>::length(kScript), "=script", "t") == LUA_OK);
  lua_pushinteger(L, seed);
  lua_pushinteger(L, count);
  REQUIRE(lua_pcall(L, 2, 1, 0) == LUA_OK);
  std::size_t size = 0;
  const char* text = lua_tolstring(L, -1, &size);
  std::vector<std::string> lines;
  std::string line;
  for (std::size_t i = 0; i < size; ++i) {
    if (text[i] != '\n') {
      line += text[i];
    } else {
      lines.push_back(std::move(line));
      line.clear();
    }
  }
  lines.push_back(line);
  lua_pop(L, 1);
  return lines;
}

}  // namespace

TEST_CASE("random patterns on random strings: as stock Lua, errors included") {
  const State stock = make_state(false);
  const State ours = make_state(true);
  const auto seed = static_cast<lua_Integer>(std::random_device()());
  for (const lua_Integer each : {lua_Integer{1}, lua_Integer{2}, seed}) {
    INFO("seed ", each);
    const lua_Integer count = EVLUA_ASAN || EVLUA_TSAN ? 5000 : 50000;
    const std::vector<std::string> expected = results_of(stock.get(), each, count);
    const std::vector<std::string> got = results_of(ours.get(), each, count);
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (got[i] != expected[i]) CHECK(got[i] == expected[i]);
    }
  }
}

TEST_CASE("a search that takes long pauses, goes on after it has been moved, and finds what one finds at once") {
  const std::string subject(23, 'a');
  std::string pattern = "(";
  for (int i = 0; i < 20; ++i) pattern += "a?";
  pattern += ")(" + subject + ")";
  PatternMatcher first(subject, pattern);
  auto result = first.search(subject.data(), false);
  int pauses = 0;
  std::unique_ptr<PatternMatcher> moved;
  for (; result == PatternMatcher::Result::paused; ++pauses) {
    moved = std::make_unique<PatternMatcher>(moved ? *moved : first);
    result = moved->go_on();
  }
  CHECK(pauses > 10);
  REQUIRE(result == PatternMatcher::Result::found);
  CHECK(moved->start() == subject.data());
  CHECK(moved->stop() == moved->end());
  REQUIRE(moved->captures() == 2);
  CHECK(moved->capture(0).size == 0);
  CHECK(moved->capture(1).size == 23);
}

TEST_CASE("what is passed over since no match begins there: found behind it, and many of it pause the search") {
  for (const char* pattern : {"%p", "[^a]", "[!-/]+", "!", "[%p]$"}) {
    CAPTURE(pattern);
    for (const std::size_t before : {0u, 1u, 1023u, 1024u, 1025u, 2047u, 2048u, 2049u, 1u << 21}) {
      CAPTURE(before);
      const std::string subject = std::string(before, 'a') + "!";
      PatternMatcher matcher(subject, pattern);
      auto result = matcher.search(subject.data(), false);
      int pauses = 0;
      for (; result == PatternMatcher::Result::paused; ++pauses) result = matcher.go_on();
      REQUIRE(result == PatternMatcher::Result::found);
      CHECK(matcher.start() == subject.data() + before);
      if (before > 1u << 20 && std::string_view(pattern) != "!") CHECK(pauses > 10);
    }
    const std::string none(3000, 'a');
    PatternMatcher matcher(none, pattern);
    CHECK(matcher.search(none.data(), false) == PatternMatcher::Result::none);
  }
}

TEST_CASE("too many captures are an error wherever the pattern could match") {
  for (const char* item : {"(", "()"}) {
    std::string pattern;
    for (int i = 0; i < 33; ++i) pattern += item;
    pattern += "x";
    PatternMatcher matcher("abc", pattern);
    CHECK(matcher.search(matcher.begin(), false) == PatternMatcher::Result::none);
    REQUIRE(matcher.error() != nullptr);
    CHECK(std::string(matcher.error()) == "too many captures");
  }
}

TEST_CASE("patterns nested too deeply are refused, others of the same length are not") {
  std::string deep;
  for (int i = 0; i < 250; ++i) deep += "a?";
  const std::string subject(300, 'a');
  PatternMatcher refused(subject, deep);
  CHECK(refused.search(subject.data(), false) == PatternMatcher::Result::none);
  CHECK(std::string(refused.error()) == "pattern too complex");
  PatternMatcher taken("", deep);
  CHECK(taken.search(taken.begin(), false) == PatternMatcher::Result::found);
  CHECK(taken.stop() == taken.end());
}
