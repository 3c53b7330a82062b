// Counters and histograms of evlua.shared.
#include "lua/shared_metrics.h"

#include <lua.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "lua/shared_names.h"
#include "lua/shared_parts.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kCounterType = "evlua.counter";
constexpr const char* kHistogramType = "evlua.histogram";

/// Pushes a userdata that refers to `thing`.
template <class T>
void push_reference(lua_State* L, T& thing, const char* type) {
  *static_cast<T**>(lua_newuserdata(L, sizeof(T*))) = &thing;
  luaL_setmetatable(L, type);
}

template <class T>
T& check_reference(lua_State* L, const char* type) {
  return **static_cast<T**>(check_object(L, 1, type));
}

/// add([amount = 1])
int counter_add(lua_State* L) {
  auto& counted = check_reference<Counter>(L, kCounterType);
  counted.add(luaL_optnumber(L, 2, 1));
  return 0;
}

void push_plain(lua_State* L, double value) {
  if (value == std::floor(value) && std::fabs(value) < 9.0e15) {
    lua_pushinteger(L, static_cast<lua_Integer>(value));
  } else {
    lua_pushnumber(L, value);
  }
}

int counter_value(lua_State* L) {
  push_plain(L, check_reference<Counter>(L, kCounterType).value());
  return 1;
}

constexpr double kUsualBounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                   0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
constexpr lua_Integer kBoundsMax = 1000;

/// Copies the rising list at `index` to `bounds`, or raises.
void check_bounds(lua_State* L, int index, double* bounds, lua_Integer count) {
  for (lua_Integer i = 1; i <= count; ++i) {
    luaL_argcheck(L, lua_rawgeti(L, index, i) == LUA_TNUMBER, 2, "option 'buckets': numbers expected");
    bounds[i - 1] = lua_tonumber(L, -1);
    luaL_argcheck(L, std::isfinite(bounds[i - 1]) && (i == 1 || bounds[i - 1] > bounds[i - 2]), 2,
                  "option 'buckets': finite numbers that rise expected");
    lua_pop(L, 1);
  }
}

int observe(lua_State* L) {
  auto& observed = check_reference<Histogram>(L, kHistogramType);
  const double value = luaL_checknumber(L, 2);
  luaL_argcheck(L, !std::isnan(value), 2, "not a number");
  observed.observe(value);
  return 0;
}

int quantile(lua_State* L) {
  const auto& shown = check_reference<Histogram>(L, kHistogramType);
  const double q = luaL_checknumber(L, 2);
  luaL_argcheck(L, q >= 0 && q <= 1, 2, "number from 0 to 1 expected");
  const double value = shown.snapshot().quantile(q, shown.bounds());
  if (std::isnan(value)) {
    lua_pushnil(L);
  } else {
    lua_pushnumber(L, value);
  }
  return 1;
}

/// snapshot() -> {count, sum, buckets = {{le, count}, ...}}, counts being cumulative
int snapshot(lua_State* L) {
  const auto& shown = check_reference<Histogram>(L, kHistogramType);
  const std::size_t rows = shown.bounds().size() + 1;
  auto* counts = static_cast<std::uint64_t*>(lua_newuserdata(L, rows * sizeof(std::uint64_t)));
  double sum = 0;
  {
    const Histogram::Snapshot taken = shown.snapshot();
    std::copy(taken.counts.begin(), taken.counts.end(), counts);
    sum = taken.sum;
  }
  lua_createtable(L, 0, 3);
  lua_createtable(L, static_cast<int>(rows), 0);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    total += counts[i];
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, i + 1 < rows ? shown.bounds()[i] : HUGE_VAL);
    lua_setfield(L, -2, "le");
    set_integer(L, "count", total);
    lua_rawseti(L, -2, static_cast<lua_Integer>(i + 1));
  }
  lua_setfield(L, -2, "buckets");
  lua_pushnumber(L, sum);
  lua_setfield(L, -2, "sum");
  set_integer(L, "count", total);
  return 1;
}

}  // namespace

int shared_counter(lua_State* L) {
  const std::string_view name = check_name(L, 1);
  Counter* found = registry<Counter>().get(name, [] { return std::make_unique<Counter>(); });
  push_reference(L, check_made(L, found, "counter"), kCounterType);
  return 1;
}

/// histogram(name[, {buckets}])
int shared_histogram(lua_State* L) {
  const std::string_view name = check_name(L, 1);
  const bool has_options = check_options(L, 2, {"buckets"});
  const double* bounds = kUsualBounds;
  lua_Integer count = std::size(kUsualBounds);
  lua_settop(L, 2);
  if (has_options && lua_getfield(L, 2, "buckets") != LUA_TNIL) {
    luaL_argcheck(L, lua_istable(L, 3), 2, "option 'buckets': a list of numbers expected");
    count = static_cast<lua_Integer>(lua_rawlen(L, 3));
    luaL_argcheck(L, count >= 1 && count <= kBoundsMax, 2, "option 'buckets': 1 to 1000 numbers expected");
    auto* own = static_cast<double*>(lua_newuserdata(L, static_cast<std::size_t>(count) * sizeof(double)));
    check_bounds(L, 3, own, count);
    bounds = own;
  }
  Histogram* made = registry<Histogram>().get(
      name, [&] { return std::make_unique<Histogram>(std::vector<double>(bounds, bounds + count)); });
  Histogram& found = check_made(L, made, "histogram");
  const bool same = std::equal(found.bounds().begin(), found.bounds().end(), bounds, bounds + count);
  if (bounds != kUsualBounds && !same) {
    return luaL_error(L, "the histogram '%s' is there already, with other buckets", lua_tostring(L, 1));
  }
  push_reference(L, found, kHistogramType);
  return 1;
}

void define_shared_metrics(lua_State* L) {
  const luaL_Reg counter_methods[] = {{"add", counter_add}, {"value", counter_value}, {nullptr, nullptr}};
  define_type(L, kCounterType, counter_methods, nullptr);
  const luaL_Reg histogram_methods[] = {
      {"observe", observe}, {"quantile", quantile}, {"snapshot", snapshot}, {nullptr, nullptr}};
  define_type(L, kHistogramType, histogram_methods, nullptr);
}

void for_each_shared_counter(const std::function<void(const std::string&, const Counter&)>& visit) {
  registry<Counter>().for_each(visit);
}

void for_each_shared_histogram(const std::function<void(const std::string&, const Histogram&)>& visit) {
  registry<Histogram>().for_each(visit);
}

}  // namespace evlua::lua
