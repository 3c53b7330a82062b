#include "fs/account.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

namespace evlua::fs {

namespace {

constexpr std::size_t kRoomMax = 1 << 20;

std::optional<unsigned> number_of(const std::string& text) noexcept {
  unsigned number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  // -1 means "none" to the system.
  if (error != std::errc() || rest != end || number == static_cast<unsigned>(-1)) return std::nullopt;
  return number;
}

/// Calls `look(buffer, size)`, which returns an errno, with as much room as it takes.
template <class Look>
int with_room(std::vector<char>& room, Look look) {
  room.resize(4096);
  while (true) {
    const int error = look(room.data(), room.size());
    if (error != ERANGE || room.size() >= kRoomMax) return error;
    room.resize(room.size() * 2);
  }
}

std::vector<gid_t> groups_of(const passwd& entry) {
  int count = 64;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  if (::getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
    (void)::getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count);
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

}  // namespace

std::optional<Account> find_user(const std::string& name) {
  std::vector<char> room;
  passwd entry{};
  passwd* found = nullptr;
  const std::optional<unsigned> number = number_of(name);
  (void)with_room(room, [&](char* data, std::size_t size) {
    return number ? ::getpwuid_r(*number, &entry, data, size, &found)
                  : ::getpwnam_r(name.c_str(), &entry, data, size, &found);
  });
  if (found != nullptr) return Account{entry.pw_uid, entry.pw_gid, groups_of(entry)};
  if (number) return Account{*number, ::getegid(), {::getegid()}};
  return std::nullopt;
}

std::optional<gid_t> find_group(const std::string& name) {
  if (const std::optional<unsigned> number = number_of(name)) return *number;
  std::vector<char> room;
  group entry{};
  group* found = nullptr;
  (void)with_room(room,
                  [&](char* data, std::size_t size) { return ::getgrnam_r(name.c_str(), &entry, data, size, &found); });
  if (found == nullptr) return std::nullopt;
  return entry.gr_gid;
}

}  // namespace evlua::fs
