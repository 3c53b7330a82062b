// The counters and histograms of evlua.shared, for whoever reports them.
#pragma once

#include <functional>
#include <string>

#include "core/shared/metrics.h"

namespace evlua::lua {

/// In the order of their names. What is visited must not touch others of them. [any thread]
void for_each_shared_counter(const std::function<void(const std::string& name, const Counter&)>& visit);
void for_each_shared_histogram(const std::function<void(const std::string& name, const Histogram&)>& visit);

}  // namespace evlua::lua
