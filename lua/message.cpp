#include "lua/message.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/refusal.h"
#include "lua/channel_cycles.h"
#include "lua/message_format.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kPackedType = "evlua.message";
constexpr const char* kChannelType = "evlua.channel";
constexpr std::size_t kFirstBytes = 48;
constexpr std::size_t kOverhead = 16;  // of a block of malloc

}  // namespace

std::unique_ptr<Message> Message::create(const std::shared_ptr<MessageAccount>& account, bool limited) noexcept {
  std::unique_ptr<Message> message(new (std::nothrow) Message(account));
  if (message == nullptr) return nullptr;
  message->limited_ = limited;
  if (!message->charge(sizeof(Message) + kOverhead)) return nullptr;
  return message;
}

Message::~Message() {
  while (channels_ != nullptr) {
    ChannelLink* link = std::exchange(channels_, channels_->next);
    drop_channel(link->channel);
    delete link;
  }
  while (strings_ != nullptr) {
    MessageString* string = std::exchange(strings_, strings_->next);
    MessageString::destroy(string);
  }
  std::free(data);
  discharge(charged_);
}

bool Message::charge(std::size_t bytes) noexcept {
  if (memory_refused()) return false;
  if (!limited_) {
    account_->force(bytes);
  } else if (!account_->take(bytes)) {
    return false;
  }
  charged_ += bytes;
  return true;
}

void Message::discharge(std::size_t bytes) noexcept {
  charged_ -= bytes;
  account_->give_back(bytes);
}

bool Message::append(const void* added, std::size_t bytes) noexcept {
  if (bytes > capacity_ - size) {
    const std::size_t wanted = std::max({size + bytes, capacity_ + capacity_ / 2, kFirstBytes});
    if (!charge(wanted - capacity_)) return false;
    auto* grown = static_cast<char*>(std::realloc(data, wanted));
    if (grown == nullptr) {
      discharge(wanted - capacity_);
      return false;
    }
    data = grown;
    capacity_ = wanted;
  }
  std::memcpy(data + size, added, bytes);
  size += bytes;
  return true;
}

Message::ChannelLink* Message::add_channel(const std::shared_ptr<MessageChannel>& channel) noexcept {
  auto* link = new (std::nothrow) ChannelLink{nullptr, nullptr};
  if (link == nullptr || !charge(sizeof(ChannelLink) + kOverhead)) {
    delete link;
    return nullptr;
  }
  link->channel = channel;
  link->next = std::exchange(channels_, link);
  return link;
}

MessageString* Message::add_string(const char* bytes, std::size_t length) noexcept {
  const std::size_t cost = MessageString::cost(length) + 2 * kOverhead;
  if (!charge(cost)) return nullptr;
  MessageString* string = MessageString::create(bytes, length);
  if (string == nullptr) {
    discharge(cost);
    return nullptr;
  }
  string->next = std::exchange(strings_, string);
  return string;
}

bool Message::mentions(const MessageChannel* channel) const noexcept {
  const ChannelLink* link = channels_;
  while (link != nullptr && link->channel.get() != channel) link = link->next;
  return link != nullptr;
}

// -- as Lua sees it ------------------------------------------------------------------------------------------------

namespace {

int collect_packed(lua_State* L) {
  static_cast<PackedMessage*>(lua_touserdata(L, 1))->~PackedMessage();
  return 0;
}

}  // namespace

std::unique_ptr<Message>& push_packed(lua_State* L) {
  auto* packed = new (lua_newuserdata(L, sizeof(PackedMessage))) PackedMessage;
  luaL_setmetatable(L, kPackedType);
  return packed->message;
}

std::unique_ptr<Message>& packed_message(lua_State* L, int index) {
  return static_cast<PackedMessage*>(check_object(L, index, kPackedType))->message;
}

void define_message_type(lua_State* L) {
  const luaL_Reg packed[] = {{"__gc", collect_packed}, {nullptr, nullptr}};
  define_type(L, kPackedType, nullptr, packed);
}

void push_channel(lua_State* L, const std::shared_ptr<MessageChannel>& channel) {
  new (lua_newuserdata(L, sizeof channel)) std::shared_ptr<MessageChannel>(channel);
  luaL_setmetatable(L, kChannelType);
}

std::shared_ptr<MessageChannel>* to_channel(lua_State* L, int index) {
  return static_cast<std::shared_ptr<MessageChannel>*>(luaL_testudata(L, index, kChannelType));
}

}  // namespace evlua::lua
