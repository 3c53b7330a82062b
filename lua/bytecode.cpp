#include "lua/bytecode.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/lockfree/futex_mutex.h"

namespace evlua::lua {

namespace {

using Bytecode = std::shared_ptr<const std::string>;

constexpr std::size_t kBytesMax = std::size_t{64} << 20;
constexpr std::size_t kFilesMax = 10'000;

/// By the name of the chunk and what is in it, so that a file that has changed is compiled again.
class Cache {
 public:
  Bytecode find(const std::string& key) {
    const std::lock_guard guard(lock_);
    const auto place = chunks_.find(key);
    if (place == chunks_.end()) return nullptr;
    ++counts_.reused;
    return place->second;
  }

  /// The name of a chunk that comes from a file is "@" and the file's.
  void note(std::string_view name) {
    const std::lock_guard guard(lock_);
    if (name.starts_with('@') && files_.size() < kFilesMax) files_.emplace(name.substr(1));
  }

  std::vector<std::string> files() {
    const std::lock_guard guard(lock_);
    return {files_.begin(), files_.end()};
  }

  CodeCounts counts() {
    const std::lock_guard guard(lock_);
    return counts_;
  }

  void add(std::string key, Bytecode bytecode) {
    const std::lock_guard guard(lock_);
    if (bytes_ > kBytesMax) {  // somebody loads ever new code
      chunks_.clear();
      bytes_ = 0;
    }
    ++counts_.compiled;
    bytes_ += key.size() + bytecode->size();
    chunks_.emplace(std::move(key), std::move(bytecode));
  }

 private:
  FutexMutex lock_;
  std::unordered_map<std::string, Bytecode> chunks_;
  std::set<std::string, std::less<>> files_;
  std::size_t bytes_ = 0;
  CodeCounts counts_;
};

Cache& cache() {
  static auto& shared = *new Cache;
  return shared;
}

std::string key_of(std::string_view text, std::string_view name) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  std::string key(reinterpret_cast<const char*>(&hash), sizeof hash);
  key += std::to_string(text.size());
  key += name;
  return key;
}

/// As luaL_loadbufferx. Nothing here raises.
int load(lua_State* L, std::string_view text, const char* name) {
  std::string key = key_of(text, name);
  cache().note(name);
  if (const Bytecode known = cache().find(key)) return luaL_loadbufferx(L, known->data(), known->size(), name, "b");
  const int status = luaL_loadbufferx(L, text.data(), text.size(), name, "bt");
  if (status != LUA_OK || text.starts_with(LUA_SIGNATURE[0])) return status;
  auto bytecode = std::make_shared<std::string>();
  lua_dump(
      L,
      [](lua_State*, const void* data, std::size_t size, void* to) {
        static_cast<std::string*>(to)->append(static_cast<const char*>(data), size);
        return 0;
      },
      bytecode.get(), 0);
  cache().add(std::move(key), std::move(bytecode));
  return status;
}

lua_CFunction stock_load = nullptr;

/// load(chunk[, name[, mode[, environment]]]): as the stock one, but for the mode when there is none.
int load_text(lua_State* L) {
  if (lua_gettop(L) > 0 && lua_isnoneornil(L, 3)) {
    if (lua_gettop(L) < 3) lua_settop(L, 3);
    lua_pushliteral(L, "t");
    lua_replace(L, 3);
  }
  return stock_load(L);
}

}  // namespace

void replace_load(lua_State* L) {
  static std::once_flag once;
  lua_getglobal(L, "load");
  std::call_once(once, [L] { stock_load = lua_tocfunction(L, -1); });  // the same in every state
  lua_pop(L, 1);
  lua_register(L, "load", load_text);
}

CodeCounts code_counts() { return cache().counts(); }

std::vector<std::string> loaded_files() { return cache().files(); }

int compile_shared(lua_State* L) {
  std::size_t size = 0;
  const char* text = luaL_checklstring(L, 1, &size);
  const char* name = luaL_checkstring(L, 2);
  const bool has_environment = lua_gettop(L) >= 3;
  if (load(L, {text, size}, name) != LUA_OK) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (has_environment) {
    lua_pushvalue(L, 3);
    if (lua_setupvalue(L, -2, 1) == nullptr) lua_pop(L, 1);
  }
  return 1;
}

}  // namespace evlua::lua
