// evlua.json: what it takes and what it refuses, beside simdjson's own parser; and memory that runs out anywhere.
#include <simdjson.h>

#include <cstdlib>
#include <lua.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "lua/modules.h"
#include "tests/support/doctest.h"

namespace {

using namespace std::string_literals;

/// A state whose allocator refuses everything once `left` allocations were granted.
class State {
 public:
  State() : L(lua_newstate(&State::allocate, this)) {
    luaL_requiref(L, "_G", luaopen_base, 1);
    luaL_requiref(L, "json", evlua::lua::open_json, 1);
    lua_settop(L, 0);
  }
  ~State() {
    left = SIZE_MAX;
    lua_close(L);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Runs the chunk with one argument; its first result as a string, or the error.
  std::string run(const char* chunk, std::string_view argument) {
    lua_settop(L, 0);
    REQUIRE(luaL_loadstring(L, chunk) == LUA_OK);
    lua_pushlstring(L, argument.data(), argument.size());
    failed = lua_pcall(L, 1, 1, 0) != LUA_OK;
    std::size_t size = 0;
    const char* text = luaL_tolstring(L, -1, &size);
    return {text, size};
  }

  /// The text encoded again, or "CODE: message".
  std::string again(std::string_view text) {
    return run(
        "local value, message, code = json.decode(...)\n"
        "if code then return code .. ': ' .. message end\n"
        "return assert(json.encode(value, {sort_keys = true}))",
        text);
  }

  std::size_t left = SIZE_MAX;  // before L, which allocates
  lua_State* const L;
  bool failed = false;

 private:
  static void* allocate(void* self, void* block, std::size_t old_size, std::size_t size) {
    auto& state = *static_cast<State*>(self);
    if (size == 0) {
      std::free(block);
      return nullptr;
    }
    if (block == nullptr || size > old_size) {
      if (state.left == 0) return nullptr;
      --state.left;
    }
    return std::realloc(block, size);
  }
};

struct Case {
  std::string text;
  std::string expected = "";  ///< what it is when it is encoded again; "" if that is the same
};

bool simdjson_takes(const std::string& text) {
  simdjson::dom::parser parser;
  return parser.parse(text).error() == simdjson::SUCCESS;
}

}  // namespace

TEST_CASE("what is JSON is taken, and comes back the same") {
  State state;
  const Case cases[] = {
      // Scalars, and white space around them.
      {"null"},
      {"true"},
      {"false"},
      {"0"},
      {"\"\""},
      {" 1 ", "1"},
      {"\t\r\n 1\n", "1"},
      {"[]"},
      {"{}"},
      {" [ ] ", "[]"},
      {" { } ", "{}"},
      {"[ 1 , 2 ]", "[1,2]"},
      {"{ \"a\" : 1 }", R"({"a":1})"},
      {"[\n]", "[]"},
      {"[null,true,false]"},
      {"[1\n]", "[1]"},
      {"{\"a\":\t1\r}", R"({"a":1})"},
      // Integers.
      {"-0", "0"},
      {"-1"},
      {"10"},
      {"123456789"},
      {"9223372036854775807"},
      {"-9223372036854775808"},
      {"1000000000000000000"},
      {"999999999999999999"},
      {"-999999999999999999"},
      {"9223372036854775808", "9223372036854775808.0"},
      {"18446744073709551615", "18446744073709551616.0"},
      {"10000000000000000000", "1e+19"},
      // Floats.
      {"0.0"},
      {"-0.0"},
      {"1.0"},
      {"-1.5"},
      {"0.1"},
      {"3.141592653589793"},
      {"1e3", "1000.0"},
      {"1E3", "1000.0"},
      {"1e+3", "1000.0"},
      {"1e-3", "0.001"},
      {"1.5e2", "150.0"},
      {"0e1", "0.0"},
      {"0E+1", "0.0"},
      {"-0e-1", "-0.0"},
      {"1e22", "1e+22"},
      {"1e23", "1e+23"},
      {"123e65", "1.23e+67"},
      {"1.7976931348623157e308", "1.7976931348623157e+308"},
      {"2.2250738585072014e-308"},
      {"5e-324"},
      {"4.9406564584124654e-324", "5e-324"},
      {"1e-400", "0.0"},
      {"-1e-400", "-0.0"},
      {"0.000000000000000000000000000001", "1e-30"},
      {"9007199254740993.0", "9007199254740992.0"},
      {"0.30000000000000004"},
      {"123456789012345678.5", "123456789012345680.0"},
      {"1e-9999999999999999999", "0.0"},
      {"0e9999999999999999999", "0.0"},
      {"1.00000000000000000000000000000000001", "1.0"},
      {"100000000000000000000000000000e-29", "1.0"},
      // Strings.
      {R"("a")"},
      {R"("\"\\\b\f\n\r\t")"},
      {R"("\/")", R"("/")"},
      {R"("\u0041")", R"("A")"},
      {R"("\u0000")"},
      {R"("\u001f")"},
      {R"("\u001F")", R"("\u001f")"},
      {R"("\u00e9")", "\"\xc3\xa9\""},
      {R"("\u20AC")", "\"\xe2\x82\xac\""},
      {R"("\ud83d\ude00")", "\"\xf0\x9f\x98\x80\""},
      {R"("\uD834\uDD1E")", "\"\xf0\x9d\x84\x9e\""},
      {R"("\udbff\udfff")", "\"\xf4\x8f\xbf\xbf\""},
      {R"("\uffff")", "\"\xef\xbf\xbf\""},
      {R"("\ud7ff\ue000")", "\"\xed\x9f\xbf\xee\x80\x80\""},
      {"\"\xc3\xa9\""},
      {"\"\xe2\x82\xac\""},
      {"\"\xf0\x9f\x98\x80\""},
      {"\"\xf4\x8f\xbf\xbf\""},
      {"\"\x7f\""},
      {"\"\xe2\x80\xa8\xe2\x80\xa9\""},
      {R"("a\\")"},
      {R"("\\\\\"")"},
      {R"("\\u0041")"},
      {R"("[1,2]{}:")"},
      {R"("12345678")"},
      {R"("1234567\"")"},
      {R"("12345678\n12345678")"},
      {R"("a\u0062c\u0064e\nf")", R"("abcde\nf")"},
      // Arrays and objects.
      {"[[]]"},
      {"[[],[]]"},
      {"[[[[1]]],2]"},
      {"[{}]"},
      {"[{},[],{}]"},
      {R"({"a":{}})"},
      {R"({"a":[]})"},
      {R"({"":0})"},
      {R"({"a":1,"a":2})", R"({"a":2})"},
      {R"({"a":1,"a":null})", R"({"a":null})"},
      {R"({"b":1,"a":2})", R"({"a":2,"b":1})"},
      {R"({"a\u0000b":1})"},
      {R"({"a":[{"b":[{"c":[]}]}],"d":[1]})"},
      {R"({"\u0061":1})", R"({"a":1})"},
      {"[\"a\",1,1.5,true,null,{\"x\":[]}]"},
      {R"({"1":1,"2":2})"},
      {"[null]"},
      {"[null,null]"},
      {R"([{"id":1},{"id":2},{"id":3}])"},
      {"[\"\"]"},
  };
  for (const Case& each : cases) {
    CAPTURE(each.text);
    CHECK(state.again(each.text) == (each.expected.empty() ? each.text : each.expected));
    CHECK_FALSE(state.failed);
    CHECK(simdjson_takes(each.text));
  }
  // simdjson knows no integers of more than 64 bits.
  CHECK(state.again("-9223372036854775809") == "-9223372036854775808.0");
  CHECK(state.again("18446744073709551616") == "18446744073709551616.0");
  CHECK(state.again("-123456789012345678901234567890") == "-1.2345678901234568e+29");
}

TEST_CASE("what is no JSON is refused, at the right place") {
  State state;
  struct Bad {
    std::string text;
    std::size_t byte;  ///< counted from 1
  };
  const Bad cases[] = {
      {"", 1},
      {" ", 2},
      {"\n\t", 3},
      {"nul", 1},
      {"nulll", 5},
      {"True", 1},
      {"tru", 1},
      {"truex", 5},
      {"fals", 1},
      {"NaN", 1},
      {"Infinity", 1},
      {"-Infinity", 1},
      {"nan", 1},
      {"undefined", 1},
      {"'a'", 1},
      {"a", 1},
      {"\\", 1},
      {"#", 1},
      {"// x\n1", 1},
      {"/* */1", 1},
      {"1 // x", 3},
      {"\xef\xbb\xbf{}", 1},
      {"\xff\xfe", 1},
      {"\0"s, 1},
      {"1\0"s, 1},
      {"[1\0]"s, 2},
      {"\0001"s, 1},
      {"\f1", 1},
      {"1\v", 1},
      {"\xc2\xa0"
       "1",
       1},
      {"\xe2\x81\xa0", 1},
      // Numbers.
      {"-", 1},
      {"+1", 1},
      {"01", 1},
      {"-01", 1},
      {"00", 1},
      {"1.", 1},
      {".5", 1},
      {"-.5", 1},
      {"1.e1", 1},
      {"1e", 1},
      {"1e+", 1},
      {"1e-", 1},
      {"1E+-1", 1},
      {"1.5.5", 1},
      {"1e1.5", 1},
      {"0x10", 1},
      {"1a", 1},
      {"1_000", 1},
      {"1,", 2},
      {"--1", 1},
      {"- 1", 1},
      {"1 2", 3},
      {"1e400", 1},
      {"-1e400", 1},
      {"[1e999999999999999999999]", 2},
      {"1e1000000000000", 1},
      {"\xef\xbc\x91", 1},
      {"1\"a\"", 1},
      {"true\"a\"", 5},
      {"1true", 1},
      {"[1 true]", 4},
      // Strings.
      {"\"", 1},
      {"\"a", 1},
      {"\"\\\"", 1},
      {"[\"a", 2},
      {"\"\n\"", 2},
      {"\"\t\"", 2},
      {"\"a\0\""s, 3},
      {"\"\x1f\"", 2},
      {R"("\x")", 2},
      {R"("\a")", 2},
      {R"("\0")", 2},
      {R"("\u")", 2},
      {R"("\u12")", 2},
      {R"("\u123g")", 2},
      {R"("\U0041")", 2},
      {R"("\u 041")", 2},
      {R"("ab\ud800")", 4},
      {R"("\udc00")", 2},
      {R"("\ud800\ud800")", 2},
      {R"("\ud800\n")", 2},
      {R"("\ud800\u0041")", 2},
      {R"("\udfff\ud800")", 2},
      {R"("\ud800x")", 2},
      {R"("\ud800\u12")", 2},
      {"\"\\\xc3\xa9\"", 2},
      {R"("a" "b")", 5},
      {R"("a"b)", 4},
      {R"("a"1)", 4},
      {"\"\x80\"", 2},
      {"\"\xc3\"", 2},
      {"\"\xc0\x80\"", 2},
      {"\"\xc1\xbf\"", 2},
      {"\"\xe0\x80\x80\"", 2},
      {"\"\xe2\x82\"", 2},
      {"\"\xed\xa0\x80\"", 2},
      {"\"\xed\xbf\xbf\"", 2},
      {"\"\xf0\x80\x80\x80\"", 2},
      {"\"\xf4\x90\x80\x80\"", 2},
      {"\"\xf5\x80\x80\x80\"", 2},
      {"\"\xff\"", 2},
      {"\"abc\xe9\"", 5},
      {"[\"\xc3\xa9\", \"\xe9\"]", 9},
      {"\"\xf0\x9f\x98\"", 2},
      // Arrays.
      {"[", 2},
      {"]", 1},
      {"[1", 3},
      {"[1,", 4},
      {"[,]", 2},
      {"[,1]", 2},
      {"[1,]", 4},
      {"[1,,2]", 4},
      {"[1 2]", 4},
      {"[1}", 3},
      {"[[1]", 5},
      {"[1]]", 4},
      {"[1]x", 4},
      {"[1:2]", 3},
      {"[\"a\":1]", 5},
      {"[}", 2},
      {"[1],", 4},
      {"[][]", 3},
      {"[-]", 2},
      {"[1\n\n,]", 6},
      {"[*]", 2},
      {"[a", 2},
      {"[[],", 5},
      {"[{}", 4},
      {"[[1]}", 5},
      // Objects.
      {"{", 2},
      {"}", 1},
      {"{\"a\"", 5},
      {"{\"a\":", 6},
      {"{\"a\":1", 7},
      {"{\"a\":1,", 8},
      {"{\"a\":1,}", 8},
      {"{,}", 2},
      {"{1:1}", 2},
      {"{a:1}", 2},
      {"{'a':1}", 2},
      {"{null:1}", 2},
      {"{\"a\" 1}", 6},
      {"{\"a\",1}", 5},
      {"{\"a\":}", 6},
      {"{\"a\"::1}", 6},
      {"{\"a\":1 \"b\":2}", 8},
      {"{\"a\":1,,\"b\":2}", 8},
      {"{\"a\":1]", 7},
      {"{\"a\":1}}", 8},
      {"{\"a\":1}#", 8},
      {"{[]:1}", 2},
      {"{\"a\":1:2}", 7},
      {"{\"a\"}", 5},
      {"{]", 2},
      {"{\"a\":[1}", 8},
      {"{\"a\":{\"b\":1}", 13},
      {"{:1}", 2},
      {"{\"a\":\"b\"\"c\":1}", 9},
      {"{{}:1}", 2},
  };
  for (const Bad& each : cases) {
    CAPTURE(each.text);
    const std::string got = state.again(each.text);
    CHECK_FALSE(state.failed);
    CHECK_MESSAGE(got.substr(0, 8) == "EINVAL: ", got);
    CHECK_MESSAGE(got.find("(byte " + std::to_string(each.byte) + ")") != std::string::npos, got);
    CHECK_FALSE(simdjson_takes(each.text));
  }
}

TEST_CASE("nesting is limited, and a long text of brackets does no harm") {
  State state;
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(state.again(nested(1000)) == nested(1000));
  CHECK(state.again(nested(1001)).substr(0, 6) == "ELIMIT");
  CHECK(state.again(nested(1001)).find("column 1001 ") != std::string::npos);
  CHECK(state.again(std::string(1000000, '[')).substr(0, 6) == "ELIMIT");
  CHECK(state.again(std::string(1000000, ']')).substr(0, 6) == "EINVAL");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  CHECK(state.again(objects).substr(0, 6) == "ELIMIT");
  // Side by side they are no depth.
  std::string wide = "[[]";
  for (int i = 0; i < 100000; ++i) wide += ",[]";
  CHECK(state.again(wide + "]") == wide + "]");
  // As deep as it goes, both ways.
  CHECK(state.run("local t = json.decode(..., {max_depth = 5000}) return #json.encode(t, {max_depth = 5000})",
                  nested(5000)) == "10000");
  CHECK(state.run("local t = json.decode(..., {max_depth = 5000}) return select(3, json.encode(t))", nested(1001)) ==
        "ELIMIT");
}

TEST_CASE("memory may run out anywhere: an error, and the next call works") {
  const std::string text =
      R"({"list":[1,2.5,"three",[4,[5,[6]]]],"long":")" + std::string(20000, 'x') + R"(\n","object":{"a":{},"b":[]}})";
  for (const char* chunk : {"return json.decode(...)", "return json.encode(value)",
                            "return json.encode(value, {sort_keys = true, indent = 2})"}) {
    bool done = false;
    for (std::size_t granted = 0; !done; ++granted) {
      CAPTURE(chunk);
      CAPTURE(granted);
      REQUIRE(granted < 1000);
      State state;
      CHECK(state.run("value = json.decode(...) return type(value)", text) == "table");
      REQUIRE(luaL_loadstring(state.L, chunk) == LUA_OK);
      lua_pushlstring(state.L, text.data(), text.size());
      lua_gc(state.L, LUA_GCCOLLECT, 0);
      state.left = granted;
      const int status = lua_pcall(state.L, 1, 3, 0);
      state.left = SIZE_MAX;
      if (status == LUA_OK) {
        CHECK(lua_isnil(state.L, -1));
        done = true;
      } else {
        CHECK(std::string(lua_tostring(state.L, -1)).find("not enough memory") != std::string::npos);
      }
      CHECK(state.again(text) == text);
    }
  }
}
