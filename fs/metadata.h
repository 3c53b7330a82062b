// What is known of a file besides its content: permissions, owner, times, names, extended attributes.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/task.h"

namespace evlua::fs {

Task<Result<void>> change_permissions(std::string path, mode_t permissions);

/// Names or numbers; empty ones stay as they are. EINVAL: there is no such name.
Task<Result<void>> change_owner(std::string path, std::string user, std::string group, bool follow_links);

/// Seconds since the epoch; what is not given stays as it is.
Task<Result<void>> change_times(std::string path, std::optional<double> accessed, std::optional<double> modified,
                                bool follow_links);

/// Another name for the file at `existing`.
Task<Result<void>> link(std::string existing, std::string path);

// Extended attributes, named "user.something". ENODATA: there is no such attribute.
Task<Result<std::string>> get_attribute(std::string path, std::string name);
Task<Result<void>> set_attribute(std::string path, std::string name, std::string_view value);
Task<Result<void>> remove_attribute(std::string path, std::string name);
Task<Result<std::vector<std::string>>> list_attributes(std::string path);

}  // namespace evlua::fs
