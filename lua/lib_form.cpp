// The primitives behind the forms of lua/lib/request.lua.
#include <lua.hpp>

#include <optional>
#include <string>

#include "lua/form.h"
#include "lua/modules.h"
#include "lua/stack.h"
#include "lua/type_label.h"
#include "net/http/multipart.h"

namespace evlua::lua {

namespace {

constexpr const char* kReaderType = "evlua.multipart_reader";

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Pushes `text` with %XX and + decoded; a broken escape stands as it is.
void push_decoded(lua_State* L, std::string_view text) {
  luaL_Buffer buffer;
  char* out = luaL_buffinitsize(L, &buffer, text.size());
  std::size_t size = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+') c = ' ';
    if (c == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
      c = static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    }
    out[size++] = c;
  }
  luaL_pushresultsize(&buffer, size);
}

/// Takes the next `name=value` from the front and pushes its name.
bool push_name(lua_State* L, std::string_view& rest, std::string_view& value) {
  while (!rest.empty()) {
    const std::size_t end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    push_decoded(L, pair.substr(0, equals));
    value = equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1);
    return true;
  }
  return false;
}

std::string_view top(lua_State* L) {
  std::size_t size = 0;
  const char* text = lua_tolstring(L, -1, &size);
  return {text, size};
}

}  // namespace

void push_parameter(lua_State* L, std::string_view text, std::string_view wanted) {
  for (std::string_view value; push_name(L, text, value); lua_pop(L, 1)) {
    if (top(L) != wanted) continue;
    push_decoded(L, value);
    lua_remove(L, -2);
    return;
  }
  lua_pushnil(L);
}

void push_parameters(lua_State* L, std::string_view text) {
  lua_newtable(L);
  for (std::string_view value; push_name(L, text, value);) {
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL) {  // the first one counts
      lua_pop(L, 2);
      continue;
    }
    lua_pop(L, 1);
    push_decoded(L, value);
    lua_rawset(L, -3);
  }
}

void push_parameter_list(lua_State* L, std::string_view text, std::string_view wanted) {
  lua_newtable(L);
  lua_Integer count = 0;
  for (std::string_view value; push_name(L, text, value); lua_pop(L, 1)) {
    if (top(L) != wanted) continue;
    push_decoded(L, value);
    lua_rawseti(L, -3, ++count);
  }
}

namespace {

// -- multipart ------------------------------------------------------------------------------------------------------

using Reader = http::MultipartReader;

Reader& check_reader(lua_State* L) { return *static_cast<Reader*>(check_object(L, 1, kReaderType)); }

/// multipart(content_type) -> reader, or nil
int open_reader(lua_State* L) {
  void* memory = lua_newuserdata(L, sizeof(Reader));
  {
    const std::optional<std::string> boundary = http::multipart_boundary(check_bytes(L, 1));
    if (boundary) {
      new (memory) Reader(*boundary);
      luaL_setmetatable(L, kReaderType);
      return 1;
    }
  }
  lua_pushnil(L);
  return 1;
}

int feed(lua_State* L) {
  check_reader(L).feed(check_bytes(L, 2));
  return 0;
}

int finish_reader(lua_State* L) {
  check_reader(L).finish();
  return 0;
}

void set_text(lua_State* L, const char* name, std::string_view text) {
  lua_pushlstring(L, text.data(), text.size());
  lua_setfield(L, -2, name);
}

void push_part(lua_State* L, const http::PartHead& head) {
  lua_createtable(L, 0, 5);
  set_text(L, "name", head.name);
  if (head.file_name) set_text(L, "filename", *head.file_name);
  if (!head.content_type.empty()) set_text(L, "type", head.content_type);
  lua_newtable(L);
  for (const auto& [name, value] : head.fields) {
    luaL_Buffer lower;
    char* out = luaL_buffinitsize(L, &lower, name.size());
    for (std::size_t i = 0; i < name.size(); ++i)
      out[i] = static_cast<char>(name[i] | (name[i] >= 'A' && name[i] <= 'Z' ? 0x20 : 0));
    luaL_pushresultsize(&lower, name.size());
    lua_pushlstring(L, value.data(), value.size());
    lua_rawset(L, -3);
  }
  lua_setfield(L, -2, "headers");
}

/// next() -> event[, what belongs to it]
int next_event(lua_State* L) {
  Reader& reader = check_reader(L);
  switch (reader.next()) {
    case Reader::Event::more: lua_pushliteral(L, "more"); return 1;
    case Reader::Event::part:
      lua_pushliteral(L, "part");
      push_part(L, reader.head());
      return 2;
    case Reader::Event::data:
      lua_pushliteral(L, "data");
      lua_pushlstring(L, reader.data().data(), reader.data().size());
      return 2;
    case Reader::Event::part_end: lua_pushliteral(L, "part_end"); return 1;
    case Reader::Event::end: lua_pushliteral(L, "end"); return 1;
    case Reader::Event::invalid: break;
  }
  lua_pushliteral(L, "invalid");
  lua_pushstring(L, reader.reason());
  return 2;
}

int collect_reader(lua_State* L) {
  check_reader(L).~Reader();
  return 0;
}

int parse_form(lua_State* L) {
  push_parameters(L, check_bytes(L, 1));
  return 1;
}

/// register(metatable): by its name, as those of C types are
int register_type(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "__name");
  lua_pushvalue(L, -1);
  lua_pushvalue(L, 1);
  lua_settable(L, LUA_REGISTRYINDEX);
  lua_pushstring(L, type_label(lua_tostring(L, -1)));
  lua_setfield(L, 1, "__name");
  return 0;
}

}  // namespace

void extend_with(lua_State* L, const char* file) {
  const luaL_Reg reader[] = {{"feed", feed}, {"finish", finish_reader}, {"next", next_event}, {nullptr, nullptr}};
  const luaL_Reg reader_meta[] = {{"__gc", collect_reader}, {nullptr, nullptr}};
  define_type(L, kReaderType, reader, reader_meta);
  push_embedded(L, file);
  const luaL_Reg functions[] = {{"multipart", open_reader},
                                {"parse_form", parse_form},
                                {"register", register_type},
                                {"at_end", at_request_end},
                                {nullptr, nullptr}};
  luaL_newlib(L, functions);
  lua_pushvalue(L, -3);
  lua_setfield(L, -2, "methods");
  lua_call(L, 1, 0);
}

}  // namespace evlua::lua
