// Channels whose queued messages hold each other: no reference from outside leads to them, and each keeps the next
// alive. Whoever lets go of a channel through which channels were sent has them looked for, every now and then, so that
// the work is in proportion to what was sent.
#pragma once

#include <cstddef>
#include <memory>

#include "lua/message.h"

namespace evlua::lua {

/// Every channel is made by this. Null when there is no memory. [any thread]
std::shared_ptr<MessageChannel> make_message_channel(std::size_t capacity) noexcept;

/// A message that mentions channels is about to be sent over `carrier`. [any thread]
void note_carrier(MessageChannel& carrier) noexcept;

/// Lets go of a channel. [any thread, holding no channel's lock]
void drop_channel(std::shared_ptr<MessageChannel>& channel) noexcept;

/// Looks for them now, unless nothing was let go of since: for when there is no memory. [as drop_channel]
void collect_channel_cycles() noexcept;

}  // namespace evlua::lua
