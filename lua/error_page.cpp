#include "lua/error_page.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <utility>

#include "core/whole_file.h"

namespace evlua::lua {

namespace {

constexpr int kLinesAround = 5;
constexpr std::size_t kLineMax = 400;
constexpr std::size_t kExcerptsMax = 30;
constexpr std::string_view kTraceback = "stack traceback:";

constexpr std::string_view kHead = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Error in the handler</title>
<link rel="icon" href="data:,">
<style>
  :root { --page: #f5f6f8; --card: #ffffff; --line: #dfe3e8; --text: #1b2430; --soft: #586474; --bad: #c62828;
          --mark: #fbe0df; }
  @media (prefers-color-scheme: dark) {
    :root { --page: #0f141a; --card: #182029; --line: #2c3742; --text: #e4e9ef; --soft: #9aa7b5; --bad: #ff8a80;
            --mark: #431e1c; }
  }
  * { box-sizing: border-box; }
  body { margin: 0 auto; max-width: 70rem; padding: 1.25rem; background: var(--page); color: var(--text);
         font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
  code, pre { font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
  h1 { font-size: 1.15rem; margin: 0; font-weight: 650; color: var(--bad); white-space: pre-wrap;
       overflow-wrap: anywhere; }
  h2 { font-size: .95rem; margin: 1.5rem 0 .5rem; font-weight: 600; }
  p { margin: .25rem 0 1rem; color: var(--soft); overflow-wrap: anywhere; }
  pre, details, .plain { margin: 0; background: var(--card); border: 1px solid var(--line); }
  pre { overflow-x: auto; padding: .5rem 0; border-radius: 6px; }
  details + details, .plain + details, details + .plain, .plain + .plain { border-top: 0; }
  details pre { border-width: 1px 0 0; border-radius: 0; }
  summary, .plain { padding: .35rem .8rem; overflow-wrap: anywhere; }
  summary { cursor: pointer; }
  .plain { color: var(--soft); }
  .row { display: block; padding: 0 .8rem; }
  .row i { display: inline-block; min-width: 3.2em; margin-right: 1em; text-align: right; color: var(--soft);
           font-style: normal; user-select: none; }
  .here { background: var(--mark); }
  .here i { color: var(--bad); font-weight: 700; }
</style>
</head>
<body>
)html";

struct Place {
  std::string_view name;
  int line = 0;
};

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      case '\0': out += "\xEF\xBF\xBD"; break;
      default: out += c;
    }
  }
}

/// Cuts the first line off.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

/// "name:12:" at the beginning of a message or of a line of a traceback. A name may have colons.
std::optional<Place> place_in(std::string_view text) {
  while (!text.empty() && (text.front() == '\t' || text.front() == ' ')) text.remove_prefix(1);
  for (std::size_t colon = text.find(':'); colon != std::string_view::npos; colon = text.find(':', colon + 1)) {
    Place place{text.substr(0, colon), 0};
    const std::string_view rest = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), place.line);
    if (error == std::errc() && end != rest.data() + rest.size() && *end == ':' && place.line > 0) return place;
  }
  return std::nullopt;
}

/// Lua shows only the end of a long name.
const std::string* file_of(std::string_view name, const std::vector<std::string>& files) {
  const bool cut = name.starts_with("...");
  if (cut) name.remove_prefix(3);
  for (const std::string& file : files) {
    if (cut ? file.ends_with(name) : file == name) return &file;
  }
  return nullptr;
}

/// False, and nothing is added, if there is no such line any more.
bool append_excerpt(std::string& out, const std::string& file, int wanted) {
  std::istringstream stream(read_whole_file(file).value_or(""));
  std::string rows;
  std::string line;
  bool found = false;
  for (int number = 1; number <= wanted + kLinesAround && std::getline(stream, line); ++number) {
    if (number < wanted - kLinesAround) continue;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    found = found || number == wanted;
    rows += number == wanted ? "<span class=\"row here\"><i>" : "<span class=\"row\"><i>";
    rows += std::to_string(number) + "</i>";
    append_escaped(rows, std::string_view(line).substr(0, kLineMax));
    rows += "</span>";
  }
  if (found) out += "<pre><code>" + rows + "</code></pre>\n";
  return found;
}

/// A line of a traceback; with its source to unfold, if there is any.
void append_frame(std::string& out, std::string_view line, const std::vector<std::string>& files,
                  std::size_t& excerpts) {
  const std::optional<Place> place = place_in(line);
  const std::string* file = place ? file_of(place->name, files) : nullptr;
  std::string shown;
  append_escaped(shown, line);
  std::string excerpt;
  if (file != nullptr && excerpts < kExcerptsMax && append_excerpt(excerpt, *file, place->line)) {
    ++excerpts;
    out += "<details><summary><code>" + shown + "</code></summary>" + excerpt + "</details>\n";
  } else {
    out += "<div class=\"plain\"><code>" + shown + "</code></div>\n";
  }
}

void append_message(std::string& out, std::string_view message, std::string_view request,
                    const std::vector<std::string>& files) {
  out += "<h1>";
  append_escaped(out, message);
  out += "</h1>\n<p>";
  append_escaped(out, request);
  out += "</p>\n";
  const std::optional<Place> place = place_in(message.substr(0, message.find('\n')));
  const std::string* file = place ? file_of(place->name, files) : nullptr;
  if (file == nullptr) return;
  std::string excerpt;
  if (!append_excerpt(excerpt, *file, place->line)) return;
  out += "<h2>";
  append_escaped(out, *file);
  out += ", line " + std::to_string(place->line) + "</h2>\n" + excerpt;
}

void append_heading(std::string& out, std::string_view text) {
  out += "<h2>";
  append_escaped(out, text == kTraceback ? "Traceback" : text);
  out += "</h2>\n";
}

}  // namespace

std::string error_page(std::string_view request, std::string_view failure, const std::vector<std::string>& files) {
  std::string page(kHead);
  const std::size_t trace = std::min(failure.find("\n" + std::string(kTraceback)), failure.size());
  append_message(page, failure.substr(0, trace), request, files);
  failure.remove_prefix(std::min(trace + 1, failure.size()));
  std::size_t excerpts = 0;
  std::string_view heading;
  while (!failure.empty()) {
    std::string_view line = take_line(failure);
    if (line.starts_with('\t')) {
      if (!heading.empty()) append_heading(page, std::exchange(heading, {}));
      line.remove_prefix(1);
      append_frame(page, line, files, excerpts);
    } else if (line != kTraceback || heading.empty()) {  // "in task:" says more
      if (!heading.empty()) append_heading(page, heading);
      heading = line;
    }
  }
  if (!heading.empty()) append_heading(page, heading);
  return page + "</body>\n</html>\n";
}

}  // namespace evlua::lua
