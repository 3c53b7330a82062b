// print, tostring, pairs, ipairs and load: those of the basic library that call back from C, made so that what they
// call may wait; and collectgarbage, whose settings others change, too. Behaviour and messages are stock.
#include <lua.hpp>

#include <mutex>
#include <new>
#include <string_view>

#include "lua/callbacks.h"
#include "lua/io_handle.h"
#include "lua/modules.h"
#include "lua/spare.h"

namespace evlua::lua {

namespace {

// -- tostring and print ---------------------------------------------------------------------------------------------

/// What __tostring has returned is on top.
int finish_tostring(lua_State* L, int, lua_KContext) {
  if (lua_isstring(L, -1) == 0) return luaL_error(L, "'__tostring' must return a string");
  return 1;
}

int to_string(lua_State* L) {
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__tostring") == LUA_TNIL) {
    luaL_tolstring(L, 1, nullptr);
    return 1;
  }
  lua_pushvalue(L, 1);
  lua_callk(L, 1, 1, 0, finish_tostring);
  return finish_tostring(L, LUA_OK, 0);
}

int finish_print(lua_State* L, int, lua_KContext) {
  const int error = wait_result(L);
  return error < 0 ? push_wait_errno(L, -error) : 0;
}

/// Stack: values, `tostring`, the values as strings.
int write_line(lua_State* L, int values) {
  IoFile& out = *Vm::of(L).io().out;
  for (int i = values + 2; i <= 2 * values + 1; ++i) {
    std::size_t size = 0;
    const char* text = lua_tolstring(L, i, &size);
    if (i > values + 2) out.append("\t");
    out.append({text, size});
  }
  out.append("\n");
  out.start_writing();
  (void)out.take_error();
  const std::uint64_t behind = out.appended_total() - out.written_total();
  if (behind <= IoFile::kBehindMax || !out.writing() || !can_wait(L)) return 0;
  return wait_and<FlushWait>(L, finish_print, 0, out, out.appended_total() - IoFile::kBehindMax / 2);
}

int print_from(lua_State* L, int values, int index);

int continue_print(lua_State* L, int, lua_KContext context) {
  const int values = static_cast<int>(context >> 32);
  if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER) {
    return luaL_error(L, "'tostring' must return a string to 'print'");
  }
  return print_from(L, values, static_cast<int>(context & 0xffffffff) + 1);
}

/// Turns the values from `index` on into strings, then writes all of them at once: a line is never mixed with others.
int print_from(lua_State* L, int values, int index) {
  const bool stock = lua_tocfunction(L, values + 1) == to_string;
  for (; index <= values; ++index) {
    luaL_checkstack(L, 4, "too many arguments");
    if (stock && luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) {
      luaL_tolstring(L, index, nullptr);
      continue;
    }
    if (stock) lua_pop(L, 1);
    lua_pushvalue(L, values + 1);
    lua_pushvalue(L, index);
    const auto context = static_cast<lua_KContext>(values) << 32 | index;
    lua_callk(L, 1, 1, context, continue_print);
    return continue_print(L, LUA_OK, context);
  }
  return write_line(L, values);
}

int print(lua_State* L) {
  const int values = lua_gettop(L);
  lua_getglobal(L, "tostring");
  return print_from(L, values, 1);
}

// -- pairs ----------------------------------------------------------------------------------------------------------

int finish_pairs(lua_State*, int, lua_KContext) { return 3; }

/// Upvalue: next.
int pairs(lua_State* L) {
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__pairs") == LUA_TNIL) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
  }
  lua_pushvalue(L, 1);
  lua_callk(L, 1, 3, 0, finish_pairs);
  return 3;
}

int ipairs(lua_State* L) {
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__ipairs") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    lua_callk(L, 1, 3, 0, finish_pairs);
    return 3;
  }
  lua_pushcfunction(L, evlua_next_index);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  return 3;
}

// -- load -----------------------------------------------------------------------------------------------------------

lua_CFunction stock_load = nullptr;

/// A call. In a userdata, since the C stack is gone when the reader has waited.
struct Reading {
  explicit Reading(lua_State* L) noexcept { luaL_buffinit(L, &text); }
  luaL_Buffer text;
  bool busy = true;
};

// The stack of read_and_compile.
constexpr int kReader = 1;
constexpr int kName = 2;
constexpr int kMode = 3;
constexpr int kReading = 4;

/// What the reader has returned is on top. False: that was the end.
bool add_piece(lua_State* L, Reading& call) {
  if (lua_isnil(L, -1)) return false;
  if (lua_isstring(L, -1) == 0) {
    luaL_where(L, 2);
    lua_pushliteral(L, "reader function must return a string");
    lua_concat(L, 2);
    lua_error(L);
  }
  if (lua_type(L, -1) == LUA_TSTRING && lua_rawlen(L, -1) == 0) return false;
  luaL_addvalue(&call.text);
  return true;
}

int compile(lua_State* L, Reading& call) {
  const int status = luaL_loadbufferx(L, call.text.b, call.text.n, lua_tostring(L, kName), lua_tostring(L, kMode));
  call.busy = false;
  if (status == LUA_OK) return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

int read_rest(lua_State* L, Reading& call);

int continue_reading(lua_State* L, int, lua_KContext) {
  Reading& call = *static_cast<Reading*>(lua_touserdata(L, kReading));
  return add_piece(L, call) ? read_rest(L, call) : compile(L, call);
}

int read_rest(lua_State* L, Reading& call) {
  do {
    lua_pushvalue(L, kReader);
    lua_callk(L, 0, 1, 0, continue_reading);
  } while (add_piece(L, call));
  return compile(L, call);
}

int read_and_compile(lua_State* L) { return read_rest(L, *static_cast<Reading*>(lua_touserdata(L, kReading))); }

/// Stack: four arguments, and what read_and_compile has returned, or an error.
int finish_load(lua_State* L, int status, lua_KContext has_environment) {
  constexpr int kArguments = 4;
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  const int results = lua_gettop(L) - kArguments;
  if (results == 1 && has_environment != 0) {
    lua_pushvalue(L, kArguments);
    if (lua_setupvalue(L, -2, 1) == nullptr) lua_pop(L, 1);
  }
  return results;
}

/// As the stock one, but a reader is asked for everything before anything is compiled. Upvalue: see push_spare.
int load(lua_State* L) {
  if (lua_type(L, 1) != LUA_TFUNCTION) return stock_load(L);
  const char* mode = luaL_optstring(L, 3, "t");  // as where it is given a string, see bytecode.cpp
  const char* name = luaL_optstring(L, 2, "=(load)");
  const lua_KContext has_environment = lua_isnone(L, 4) ? 0 : 1;
  lua_settop(L, 4);
  lua_pushcfunction(L, read_and_compile);
  lua_pushvalue(L, 1);
  lua_pushstring(L, name);
  lua_pushstring(L, mode);
  new (push_spare<Reading>(L)) Reading(L);
  return finish_load(L, lua_pcallk(L, 4, LUA_MULTRET, 0, has_environment, finish_load), has_environment);
}

// -- collectgarbage -------------------------------------------------------------------------------------------------

/// Upvalue: the stock one. What a program has set is what it gets back, whatever holds near the limit of memory.
int collect_garbage(lua_State* L) {
  const std::string_view option = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
  if (option != "setpause" && option != "setstepmul") {
    lua_CFunction stock = lua_tocfunction(L, lua_upvalueindex(1));
    return stock(L);
  }
  const auto value = static_cast<int>(luaL_optinteger(L, 2, 0));
  const int what = option == "setpause" ? LUA_GCSETPAUSE : LUA_GCSETSTEPMUL;
  lua_pushinteger(L, Vm::of(L).gc_pace().set_for_program(L, what, value));
  return 1;
}

}  // namespace

int open_base(lua_State* L) {
  const luaL_Reg functions[] = {{"print", print}, {"tostring", to_string}, {"ipairs", ipairs}, {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "next");
  lua_pushcclosure(L, pairs, 1);
  lua_setfield(L, -2, "pairs");
  static std::once_flag once;
  lua_getfield(L, -1, "load");
  std::call_once(once, [L] { stock_load = lua_tocfunction(L, -1); });  // the same in every state
  lua_pop(L, 1);
  lua_pushnil(L);
  lua_pushcclosure(L, load, 1);
  lua_setfield(L, -2, "load");
  lua_getfield(L, -1, "collectgarbage");
  lua_pushcclosure(L, collect_garbage, 1);
  lua_setfield(L, -2, "collectgarbage");
  return 0;
}

}  // namespace evlua::lua
