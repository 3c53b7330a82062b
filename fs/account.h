// Users and groups by their names.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace evlua::fs {

struct Account {
  uid_t user = 0;
  gid_t group = 0;
  std::vector<gid_t> groups;  ///< `group` and the supplementary ones
};

/// By name or number. A number that has no name is its own user without a group: `group` is what we have. Block.
std::optional<Account> find_user(const std::string& name);
std::optional<gid_t> find_group(const std::string& name);

}  // namespace evlua::fs
