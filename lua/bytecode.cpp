#include "lua/bytecode.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <chrono>
#include <condition_variable>
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
  /// Null: the caller compiles it, and calls `compiled`. If another thread does already, that is waited for: the thread
  /// would not be free earlier if it compiled by itself. But not for long, as collecting garbage may run anything; nor
  /// by who does compile, and has come here from a finalizer.
  Bytecode find_or_begin(const std::string& key) {
    std::unique_lock guard(lock_);
    const auto is_compiled_by_nobody = [&] { return !compiling_.contains(key); };
    if (compiles_ == 0) compiled_.wait_for(guard, kPatience, is_compiled_by_nobody);
    const auto place = chunks_.find(key);
    if (place == chunks_.end()) {
      compiling_.insert(key);
      ++compiles_;
      return nullptr;
    }
    ++counts_.reused;
    return place->second;
  }

  /// Null: it is wrong.
  void compiled(const std::string& key, Bytecode bytecode) {
    const std::lock_guard guard(lock_);
    --compiles_;
    compiling_.erase(compiling_.find(key));
    if (bytecode != nullptr) add(key, std::move(bytecode));
    compiled_.notify_all();
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

 private:
  static constexpr std::chrono::seconds kPatience{1};

  void add(const std::string& key, Bytecode bytecode) {
    if (bytes_ > kBytesMax) {  // somebody loads ever new code
      chunks_.clear();
      bytes_ = 0;
    }
    ++counts_.compiled;
    bytes_ += key.size() + bytecode->size();
    chunks_.emplace(key, std::move(bytecode));
  }

  static thread_local inline unsigned compiles_ = 0;  // by this thread

  FutexMutex lock_;
  std::condition_variable_any compiled_;
  std::multiset<std::string> compiling_;
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
  const std::string key = key_of(text, name);
  cache().note(name);
  if (text.starts_with(LUA_SIGNATURE[0])) return luaL_loadbufferx(L, text.data(), text.size(), name, "b");
  if (const Bytecode known = cache().find_or_begin(key)) {
    return luaL_loadbufferx(L, known->data(), known->size(), name, "b");
  }
  const int status = luaL_loadbufferx(L, text.data(), text.size(), name, "t");
  if (status != LUA_OK) {
    cache().compiled(key, nullptr);
    return status;
  }
  auto bytecode = std::make_shared<std::string>();
  lua_dump(
      L,
      [](lua_State*, const void* data, std::size_t size, void* to) {
        static_cast<std::string*>(to)->append(static_cast<const char*>(data), size);
        return 0;
      },
      bytecode.get(), 0);
  cache().compiled(key, std::move(bytecode));
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
