#include "fs/metadata.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "fs/account.h"
#include "fs/pooled.h"

namespace evlua::fs {

namespace {

constexpr std::size_t kAttributeMax = 65536;  // the kernel's limit, for values and lists

int link_flag(bool follow_links) noexcept { return follow_links ? 0 : AT_SYMLINK_NOFOLLOW; }

timespec time_of(const std::optional<double>& seconds) noexcept {
  if (!seconds) return {0, UTIME_OMIT};
  const double whole = std::floor(*seconds);
  const auto rest = static_cast<long>((*seconds - whole) * 1e9);
  return {static_cast<time_t>(whole), std::min(rest, 999'999'999L)};
}

int own(const std::string& path, const std::string& user, const std::string& group, int flags) {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  if (!user.empty()) {
    const std::optional<Account> account = find_user(user);
    if (!account) return EINVAL;
    uid = account->user;
  }
  if (!group.empty()) {
    const std::optional<gid_t> found = find_group(group);
    if (!found) return EINVAL;
    gid = *found;
  }
  return ::fchownat(AT_FDCWD, path.c_str(), uid, gid, flags) == 0 ? 0 : errno;
}

/// The names in `list`, each with a zero byte behind it.
std::vector<std::string> names_in(std::string_view list) {
  std::vector<std::string> names;
  while (!list.empty()) {
    const std::size_t size = list.find('\0');
    names.emplace_back(list.substr(0, size));
    list.remove_prefix(size + 1);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Task<Result<void>> change_permissions(std::string path, mode_t permissions) {
  Result<void> done =
      co_await pooled([&path, permissions] { return ::chmod(path.c_str(), permissions) == 0 ? 0 : errno; });
  co_return done;
}

Task<Result<void>> change_owner(std::string path, std::string user, std::string group, bool follow_links) {
  Result<void> done = co_await pooled([&] { return own(path, user, group, link_flag(follow_links)); });
  co_return done;
}

Task<Result<void>> change_times(std::string path, std::optional<double> accessed, std::optional<double> modified,
                                bool follow_links) {
  const timespec times[2] = {time_of(accessed), time_of(modified)};
  Result<void> done = co_await pooled([&path, &times, follow_links] {
    return ::utimensat(AT_FDCWD, path.c_str(), times, link_flag(follow_links)) == 0 ? 0 : errno;
  });
  co_return done;
}

Task<Result<void>> link(std::string existing, std::string path) {
  Result<void> done = co_await pooled([&] { return ::link(existing.c_str(), path.c_str()) == 0 ? 0 : errno; });
  co_return done;
}

Task<Result<std::string>> get_attribute(std::string path, std::string name) {
  std::string value(kAttributeMax, '\0');
  const Result<void> done = co_await pooled([&] {
    const ssize_t size = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size < 0) return errno;
    value.resize(static_cast<std::size_t>(size));
    return 0;
  });
  if (!done) co_return fail(done.error());
  co_return value;
}

Task<Result<void>> set_attribute(std::string path, std::string name, std::string_view value) {
  Result<void> done = co_await pooled(
      [&] { return ::setxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0 ? 0 : errno; });
  co_return done;
}

Task<Result<void>> remove_attribute(std::string path, std::string name) {
  Result<void> done = co_await pooled([&] { return ::removexattr(path.c_str(), name.c_str()) == 0 ? 0 : errno; });
  co_return done;
}

Task<Result<std::vector<std::string>>> list_attributes(std::string path) {
  std::string list(kAttributeMax, '\0');
  const Result<void> done = co_await pooled([&] {
    const ssize_t size = ::listxattr(path.c_str(), list.data(), list.size());
    if (size < 0) return errno;
    list.resize(static_cast<std::size_t>(size));
    return 0;
  });
  if (!done) co_return fail(done.error());
  co_return names_in(list);
}

}  // namespace evlua::fs
