// Goal: nothing that a client sends can end a field or a line of the access log, or make a line of JSON invalid; and
// only what the recommendation allows joins a trace.
#include "net/http/access_lines.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "net/http/trace_context.h"

namespace evlua::http {
namespace {

std::string escaped(std::string_view text, std::size_t max = 1000) {
  Bytes out;
  append_escaped(out, text, max);
  return std::string(out.view());
}

std::string json(std::string_view text) {
  Bytes out;
  append_json(out, text, 1000);
  return std::string(out.view());
}

TEST_CASE("every byte, at every place of a word") {
  for (int byte = 0; byte < 256; ++byte) {
    for (std::size_t place = 0; place < 20; ++place) {
      std::string text(20, 'a');
      text[place] = static_cast<char>(byte);
      const bool plain = byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      std::string wanted = text;
      if (!plain) wanted.replace(place, 1, code);
      CHECK(escaped(text) == wanted);
      std::snprintf(code, sizeof code, "\\u00%02x", byte);
      wanted = text;
      if (!plain) wanted.replace(place, 1, byte == '"' ? "\\\"" : byte == '\\' ? "\\\\" : code);
      CHECK(json(text) == wanted);
    }
  }
}

TEST_CASE("UTF-8 stays in JSON, all that only looks like it does not") {
  for (const char* good : {"\u00e4", "\u20ac", "\U0001F600", "\uFFFD", "\U0010FFFF"}) CHECK(json(good) == good);
  CHECK(json("\xc3") == "\\u00c3");
  CHECK(json("\xc0\xaf") == "\\u00c0\\u00af");
  CHECK(json("\xe0\x80\xaf") == "\\u00e0\\u0080\\u00af");
  CHECK(json("\xed\xa0\x80") == "\\u00ed\\u00a0\\u0080");  // a surrogate
  CHECK(json("\xf4\x90\x80\x80") == "\\u00f4\\u0090\\u0080\\u0080");
  CHECK(json("\u2028").find("\\u00e2") == 0);  // ends lines
  CHECK(json("\u202e").find("\\u00e2") == 0);  // turns the direction of what follows
  CHECK(json("\u009b").find("\\u00c2") == 0);  // begins an escape sequence
}

TEST_CASE("long fields are cut") { CHECK(escaped("12345", 3) == "123..."); }

TEST_CASE("traceparent") {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string good = "00-" + trace + "-00f067aa0ba902b7-01";
  const auto joined = TraceContext::join(good);
  REQUIRE(joined);
  CHECK(joined->id_text() == trace);
  CHECK(TraceContext::span_text(joined->parent) == "00f067aa0ba902b7");
  CHECK(joined->sampled());
  CHECK(joined->traceparent() == "00-" + trace + "-" + TraceContext::span_text(joined->span) + "-01");
  // Each byte of it matters.
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char bad : {'G', 'A', ' ', '\0'}) {
      std::string text = good;
      text[i] = bad;
      CHECK_FALSE(TraceContext::join(text));
    }
    CHECK_FALSE(TraceContext::join(good.substr(0, i)));
  }
  CHECK_FALSE(TraceContext::join(good + "-"));
  CHECK(TraceContext::join("01" + good.substr(2) + "-x"));
  CHECK_FALSE(TraceContext::join("01" + good.substr(2) + "x"));
  CHECK_FALSE(TraceContext::join("ff" + good.substr(2)));
  CHECK_FALSE(TraceContext::join("00-" + std::string(32, '0') + "-00f067aa0ba902b7-01"));
  CHECK_FALSE(TraceContext::join("00-" + trace + "-0000000000000000-01"));
  // Flags that nobody has defined are not handed on.
  CHECK(TraceContext::join("00-" + trace + "-00f067aa0ba902b7-ff")->traceparent().ends_with("-01"));
}

TEST_CASE("traces of our own differ") {
  std::set<std::string> seen;
  for (int i = 0; i < 10'000; ++i) seen.insert(TraceContext::begin().id_text());
  CHECK(seen.size() == 10'000);
  CHECK_FALSE(TraceContext::begin().sampled());
}

}  // namespace
}  // namespace evlua::http
