// The page about a failed handler: what it shows of which files, and that no words of a message become markup.
#include "lua/error_page.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/doctest.h"

using evlua::lua::error_page;

namespace {

/// A file of forty lines, "line 1" to "line 40".
class SourceFile {
 public:
  explicit SourceFile(const std::string& name) : path("/tmp/evlua-" + std::to_string(::getpid()) + "-" + name) {
    std::ofstream file(path);
    for (int i = 1; i <= 40; ++i) file << "line " << i << " <&>\n";
  }
  ~SourceFile() { std::remove(path.c_str()); }
  const std::string path;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the page shows the message, and the source around the line that raised") {
  const SourceFile file("page.lua");
  const std::string page = error_page("GET /x", file.path + ":20: broken\nstack traceback:\n\t[C]: in function 'error'",
                                      {"/other.lua", file.path});
  CHECK(contains(page, "<h1>" + file.path + ":20: broken</h1>"));
  CHECK(contains(page, "<p>GET /x</p>"));
  CHECK(contains(page, "<span class=\"row here\"><i>20</i>line 20 &lt;&amp;&gt;</span>"));
  CHECK(contains(page, "<i>15</i>line 15 "));
  CHECK(contains(page, "<i>25</i>line 25 "));
  CHECK_FALSE(contains(page, "line 14 "));
  CHECK_FALSE(contains(page, "line 26 "));
  CHECK(contains(page, "<div class=\"plain\"><code>[C]: in function &#39;error&#39;</code></div>"));
}

TEST_CASE("each frame of the traceback has its source, also behind a name that Lua has cut") {
  const SourceFile file("a-name-that-is-longer-than-the-sixty-characters-that-lua-shows-of-it.lua");
  const std::string cut = "..." + file.path.substr(file.path.size() - 56);
  const std::string page =
      error_page("GET /", "no place\nstack traceback:\n\t" + cut + ":3: in function <" + cut + ":1>", {file.path});
  CHECK(
      contains(page, "<details><summary><code>" + cut + ":3: in function &lt;" + cut + ":1&gt;</code></summary><pre>"));
  CHECK(contains(page, "<span class=\"row here\"><i>3</i>line 3 "));
}

TEST_CASE("a message that names another file does not make it public") {
  const SourceFile secret("secret.txt");
  const SourceFile app("app.lua");
  for (const std::string& name : {secret.path, std::string("..."), std::string("...txt"), std::string("")}) {
    const std::string page =
        error_page("GET /", name + ":2: x\nstack traceback:\n\t" + name + ":2: in function 'f'", {"/nowhere.lua"});
    CHECK_FALSE(contains(page, "line 2 "));
  }
}

TEST_CASE("no words of a message, a request or a traceback become markup") {
  const std::string hostile = "<script>alert('x')</script>&\"\n</h1><img src=x onerror=alert(1)>";
  const std::string page =
      error_page("GET /<b>", hostile + "\nstack traceback:\n\t" + hostile + "\nin task:<i>\n\t<u>:1: <s>", {});
  for (const char* markup : {"<script", "<img", "<b>", "<i>", "<u>", "<s>", "</h1><img"}) {
    CHECK_FALSE_MESSAGE(contains(page, markup), markup);
  }
  CHECK(contains(page, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"));
}

TEST_CASE("a place that is no place is left alone") {
  const SourceFile file("short.lua");
  for (const char* place : {":41: x", ":0: x", ":-1: x", ":99999999999999999999: x", ":", ":1", ": 1: x"}) {
    const std::string page = error_page("GET /", file.path + place + "\nstack traceback:", {file.path});
    CHECK_FALSE_MESSAGE(contains(page, "<pre>"), place);
  }
  CHECK(contains(error_page("", "", {}), "</html>"));
}
