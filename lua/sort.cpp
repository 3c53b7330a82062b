// table.sort, so that its order function, or __lt, may wait, and long sorts let others have their turn.
//
// The algorithm is that of Lua 5.3's ltablib.c, comparison by comparison: the same order of elements that are equal,
// the same errors. Its recursion is a list of ranges and its comparisons are steps, all in a userdata.
#include <lua.hpp>

#include <array>
#include <climits>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <new>
#include <utility>

#include "lua/callbacks.h"
#include "lua/long_call.h"
#include "lua/modules.h"
#include "lua/spare.h"

namespace evlua::lua {

// cmake/lua/order.inc: whether the value at `first` is less than that at `second`. `again` goes on if it has to wait
// for what tells that, with the answer on top.
using IsLess = int(lua_State* L, int first, int second, lua_KFunction again);
extern "C" IsLess evlua_is_less;
extern "C" IsLess evlua_is_less_by_function;
extern "C" int evlua_is_plain_list(lua_State* L, int size, std::size_t* longest);

namespace {

lua_CFunction stock_sort = nullptr;

int continue_compared(lua_State* L, int status, lua_KContext context);

constexpr std::size_t kShort = 20000;     // what sorts in a few milliseconds
constexpr std::size_t kLongString = 256;  // to compare it costs about as much again as any
constexpr unsigned kRandomAbove = 100;    // ranges so long may have a random pivot

/// A call. Between two comparisons the stack has, above it, the elements that are being looked at, the pivot first.
class Sort {
 public:
  /// `cost` of a comparison, in those of numbers.
  Sort(unsigned size, std::size_t cost) noexcept
      : range_{1, size, 0}, between_looks_(static_cast<unsigned>(kCostBetweenLooks / cost) + 1) {}

  /// Pushes what is compared first.
  void begin(lua_State* L) { (void)begin_range(L); }
  /// The comparison has told. Pushes what is compared next, or is done.
  void take(lua_State* L, bool less);
  /// The next comparison, and what follows from it.
  void compare(lua_State* L, IsLess* is_less);
  bool is_long() noexcept {
    if (++comparisons_ < between_looks_) return false;
    comparisons_ = 0;
    return true;
  }

  bool busy = true;

 private:
  static constexpr std::size_t kCostBetweenLooks = 1u << 14;

  enum class Step : std::uint8_t {
    last_with_first,
    middle_with_first,
    last_with_middle,
    left_with_pivot,
    pivot_with_right,
  };
  struct Range {
    unsigned first;
    unsigned last;
    unsigned random;  // not 0: for pivots, since they were badly chosen
  };

  void begin_range(lua_State* L);
  void settle(lua_State* L, bool less, unsigned i);
  void next_range(lua_State* L);
  void order_ends(lua_State* L, bool less);
  void order_middle(lua_State* L, bool less);
  void partition(lua_State* L);
  void look_left(lua_State* L);
  void look_right(lua_State* L);
  void split(lua_State* L);
  unsigned choose_pivot() const noexcept;

  Step step_ = Step::last_with_first;
  Range range_;  // that is being sorted
  unsigned middle_ = 0;
  unsigned left_ = 0;
  unsigned right_ = 0;
  unsigned comparisons_ = 0;  // since others had their turn
  unsigned between_looks_;
  std::array<Range, 32> later_;  // each at least twice as long as the next
  std::size_t count_ = 0;
};

/// The two values on top become elements i and j.
void set_two(lua_State* L, unsigned i, unsigned j) {
  lua_seti(L, 1, i);
  lua_seti(L, 1, j);
}

void Sort::begin_range(lua_State* L) {
  if (range_.first >= range_.last) return next_range(L);
  lua_geti(L, 1, range_.first);
  lua_geti(L, 1, range_.last);
  step_ = Step::last_with_first;
}

void Sort::next_range(lua_State* L) {
  if (count_ == 0) {
    busy = false;
    return;
  }
  range_ = later_[--count_];
  begin_range(L);
}

unsigned Sort::choose_pivot() const noexcept {
  const unsigned size = range_.last - range_.first;
  if (size < kRandomAbove || range_.random == 0) return (range_.first + range_.last) / 2;
  const unsigned quarter = size / 4;
  return range_.random % (quarter * 2) + (range_.first + quarter);
}

/// Element i and the last one, which are on top, change places.
void Sort::settle(lua_State* L, bool less, unsigned i) {
  if (less) {
    set_two(L, i, range_.last);
  } else {
    lua_pop(L, 2);
  }
}

inline void Sort::look_left(lua_State* L) {
  lua_geti(L, 1, ++left_);
  step_ = Step::left_with_pivot;
}

inline void Sort::look_right(lua_State* L) {
  lua_geti(L, 1, --right_);
  step_ = Step::pivot_with_right;
}

inline void Sort::take(lua_State* L, bool less) {
  switch (step_) {
    case Step::last_with_first: return order_ends(L, less);
    case Step::middle_with_first: return order_middle(L, less);
    case Step::last_with_middle: settle(L, less, middle_); return partition(L);
    case Step::left_with_pivot:
      if (!less) return look_right(L);
      if (left_ == range_.last - 1) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
      return look_left(L);
    case Step::pivot_with_right:
      if (!less) return split(L);
      if (right_ < left_) luaL_error(L, "invalid order function for sorting");
      lua_pop(L, 1);
      return look_right(L);
  }
}

inline void Sort::compare(lua_State* L, IsLess* is_less) {
  switch (step_) {
    case Step::middle_with_first: return take(L, is_less(L, -2, -1, continue_compared) != 0);
    case Step::pivot_with_right: return take(L, is_less(L, -3, -1, continue_compared) != 0);
    default: return take(L, is_less(L, -1, -2, continue_compared) != 0);
  }
}

void Sort::order_ends(lua_State* L, bool less) {
  settle(L, less, range_.first);
  if (range_.last - range_.first == 1) return next_range(L);
  middle_ = choose_pivot();
  lua_geti(L, 1, middle_);
  lua_geti(L, 1, range_.first);
  step_ = Step::middle_with_first;
}

void Sort::order_middle(lua_State* L, bool less) {
  if (less) {
    set_two(L, middle_, range_.first);
    return partition(L);
  }
  lua_pop(L, 1);
  lua_geti(L, 1, range_.last);
  step_ = Step::last_with_middle;
}

/// The first, the middle and the last one are in order. The middle one is the pivot, and is kept before the last.
void Sort::partition(lua_State* L) {
  if (range_.last - range_.first == 2) return next_range(L);
  lua_geti(L, 1, middle_);
  lua_pushvalue(L, -1);
  lua_geti(L, 1, range_.last - 1);
  set_two(L, middle_, range_.last - 1);
  left_ = range_.first;
  right_ = range_.last - 1;
  look_left(L);
}

/// On top: the pivot, one that is not less, and one that is not greater. Where they have met, the pivot's place is.
void Sort::split(lua_State* L) {
  if (right_ >= left_) {
    set_two(L, left_, right_);
    return look_left(L);
  }
  lua_pop(L, 1);
  set_two(L, range_.last - 1, left_);
  Range smaller{range_.first, left_ - 1, range_.random};
  Range larger{left_ + 1, range_.last, range_.random};
  if (left_ - range_.first >= range_.last - left_) std::swap(smaller, larger);
  const unsigned size = smaller.last + 1 - smaller.first;
  if ((larger.last - larger.first) / 128 > size) {
    larger.random = static_cast<unsigned>(std::clock()) + static_cast<unsigned>(std::time(nullptr));
  }
  later_[count_++] = larger;
  range_ = smaller;
  begin_range(L);
}

// -- comparisons ----------------------------------------------------------------------------------------------------

constexpr int kState = 3;

Sort& state_of_call(lua_State* L) { return *static_cast<Sort*>(lua_touserdata(L, kState)); }

int run(lua_State* L, Sort& call);

int continue_compared(lua_State* L, int, lua_KContext) {
  Sort& call = state_of_call(L);
  const bool less = lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);
  call.take(L, less);
  return run(L, call);
}

int continue_turn(lua_State* L, int, lua_KContext) { return run(L, state_of_call(L)); }

int run(lua_State* L, Sort& call) {
  auto* const is_less = lua_isnil(L, 2) ? evlua_is_less : evlua_is_less_by_function;
  while (call.busy) {
    if (call.is_long() && slice_is_over(L)) give_way(L, 0, continue_turn);
    call.compare(L, is_less);
  }
  return 0;
}

/// sort(list[, comp]). Upvalue: a spare state.
int sort(lua_State* L) {
  if (lua_type(L, 1) != LUA_TTABLE || access_calls(L, 1, kReads | kWrites | kLength)) return stock_sort(L);
  const lua_Integer size = luaL_len(L, 1);
  if (size < 2) return 0;
  luaL_argcheck(L, size < INT_MAX, 1, "array too big");
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  std::size_t cost = 1;
  if (lua_isnoneornil(L, 2)) {
    std::size_t longest = 0;
    const bool is_plain = evlua_is_plain_list(L, static_cast<int>(size), &longest) != 0;
    cost += longest / kLongString;
    if (is_plain && static_cast<std::size_t>(size) * cost <= kShort) return stock_sort(L);
  }
  lua_settop(L, 2);
  luaL_checkstack(L, 10, nullptr);
  auto& call = *new (push_spare<Sort>(L)) Sort(static_cast<unsigned>(size), cost);
  call.begin(L);
  return run(L, call);
}

}  // namespace

int open_sort(lua_State* L) {
  static std::once_flag once;
  lua_getfield(L, -1, "sort");
  std::call_once(once, [L] { stock_sort = lua_tocfunction(L, -1); });  // the same in every state
  lua_pop(L, 1);
  lua_pushnil(L);
  lua_pushcclosure(L, sort, 1);
  lua_setfield(L, -2, "sort");
  return 0;
}

}  // namespace evlua::lua
