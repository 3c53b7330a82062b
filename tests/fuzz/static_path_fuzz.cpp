// Paths of requests as names of files: nothing that comes out leads out of its folder, to a hidden file, or past a NUL.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/check.h"
#include "net/http/static_handler.h"

namespace {

using evlua::http::StaticFolders;

const StaticFolders& folders() {
  static const StaticFolders* const made = [] {
    auto* folders = new StaticFolders;
    EVLUA_CHECK(folders->add({"/", ".", "", true}).has_value());
    EVLUA_CHECK(folders->add({"/assets/", ".", "", true}).has_value());
    EVLUA_CHECK(folders->add({"/assets/deep", ".", "", true}).has_value());
    return folders;
  }();
  return *made;
}

void check_plain(std::string_view path) {
  EVLUA_CHECK(!path.empty() && path.back() != '/');
  EVLUA_CHECK(path.find('\0') == std::string_view::npos && path.find('\\') == std::string_view::npos);
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    EVLUA_CHECK(!name.empty() && (name[0] != '.' || name == ".well-known"));
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  StaticFolders::Found found;
  if (!folders().find(input, found)) return 0;
  EVLUA_CHECK(input.starts_with('/') && input.starts_with(found.folder->prefix) && found.fd >= 0);
  EVLUA_CHECK(!input.starts_with("/assets/deep/") || found.folder->prefix == "/assets/deep");
  EVLUA_CHECK(found.path.size() < input.size() + sizeof "index.html");
  const bool is_folder = input == found.folder->prefix;
  if (is_folder) EVLUA_CHECK(found.path == ".");
  if (!is_folder) check_plain(found.path);
  return 0;
}
