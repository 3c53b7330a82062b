// Message: Lua values on their way from one Vm to another, copied.
//
// nil, booleans, numbers, strings, the null of evlua.json, tables (nested, shared, with cycles; without their
// metatables) and Lua functions with their upvalues are copied. Functions of C and modules that are upvalues travel by
// name: `require` finds them on the other side. An object whose metatable has `__transfer` travels as what that
// function returns for it: a module, the name of a function there, and its arguments. Anything else is refused, by an
// error that says where it was found.
#pragma once

#include <lua.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include "core/shared/channel.h"
#include "lua/message_string.h"

namespace evlua::lua {

class Message;
using MessageChannel = Channel<std::unique_ptr<Message>>;

/// What the messages that a Vm has packed take as long as they exist, wherever they are. [any thread]
class MessageAccount {
 public:
  explicit MessageAccount(std::size_t max) noexcept : max_(max) {}

  /// False when it would be more than allowed (0: anything).
  bool take(std::size_t bytes) noexcept {
    const std::size_t used = used_.fetch_add(bytes) + bytes;
    if (max_ == 0 || used <= max_) return true;
    give_back(bytes);
    return false;
  }
  /// Takes it in any case.
  void force(std::size_t bytes) noexcept { used_.fetch_add(bytes); }
  void give_back(std::size_t bytes) noexcept { used_.fetch_sub(bytes); }
  std::size_t used() const noexcept { return used_.load(std::memory_order_relaxed); }

 private:
  const std::size_t max_;
  std::atomic<std::size_t> used_{0};
};

/// Its memory can run out: then it stays as it was, and false is returned.
class Message {
 public:
  struct ChannelLink {
    std::shared_ptr<MessageChannel> channel;
    ChannelLink* next;
  };

  /// Null when there is no memory. Unless `limited` the account is charged whatever it allows.
  static std::unique_ptr<Message> create(const std::shared_ptr<MessageAccount>& account, bool limited) noexcept;
  ~Message();
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  bool append(const void* added, std::size_t bytes) noexcept;
  /// Null when there is no memory.
  ChannelLink* add_channel(const std::shared_ptr<MessageChannel>& channel) noexcept;
  /// The same.
  MessageString* add_string(const char* bytes, std::size_t length) noexcept;
  bool mentions(const MessageChannel* channel) const noexcept;
  const ChannelLink* channels() const noexcept { return channels_; }

  char* data = nullptr;  ///< see message_format.h
  std::size_t size = 0;
  std::size_t modules_at = 0;  ///< where the names begin of modules that are to be loaded before unpacking
  int values = 0;
  std::unique_ptr<Message> next;  ///< in a channel's queue

 private:
  explicit Message(std::shared_ptr<MessageAccount> account) noexcept : account_(std::move(account)) {}
  bool charge(std::size_t bytes) noexcept;
  void discharge(std::size_t bytes) noexcept;

  const std::shared_ptr<MessageAccount> account_;
  bool limited_ = false;
  std::size_t charged_ = 0;
  std::size_t capacity_ = 0;
  ChannelLink* channels_ = nullptr;
  MessageString* strings_ = nullptr;
};

/// Pops the values from `first` to the top and pushes a userdata that holds them; raises for what cannot be copied, and
/// when there is no memory or the messages of this Vm may not take more.
void pack_message(lua_State* L, int first);
/// Pushes such a userdata without a message.
std::unique_ptr<Message>& push_packed(lua_State* L);
/// The message of such a userdata; null when it was taken.
std::unique_ptr<Message>& packed_message(lua_State* L, int index);

/// Pushes the values, takes the message, and returns their number. May raise, and may wait (for `require`): call it at
/// the end of a C function, which returns the same.
int unpack_message(lua_State* L, std::unique_ptr<Message>& message);
/// The same as a Lua function of the packed userdata on top of the stack.
int unpack_packed(lua_State* L);

/// Makes the type of packed messages known to a state.
void define_message_type(lua_State* L);

/// Channels as Lua sees them.
void push_channel(lua_State* L, const std::shared_ptr<MessageChannel>& channel);
/// Null when the value is none.
std::shared_ptr<MessageChannel>* to_channel(lua_State* L, int index);

}  // namespace evlua::lua
