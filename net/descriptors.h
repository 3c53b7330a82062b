// Open descriptors that go from one process to another over a Unix-domain stream (SCM_RIGHTS, unix(7)).
#pragma once

#include <string>
#include <string_view>

#include "core/task.h"
#include "net/stream.h"

namespace evlua::net {

/// The data that a descriptor travels with is sent in one piece.
inline constexpr std::size_t kDescriptorDataMax = 4096;

struct ReceivedDescriptor {
  Socket descriptor;  ///< of any kind, not only a socket; close-on-exec
  std::string data;   ///< that it came with, at least one byte
};

/// Sends `fd`, which stays ours, with `data`: 1 to kDescriptorDataMax bytes that must stay valid until the task ends.
/// Counts as a write. EOPNOTSUPP where the stream is no Unix socket.
Task<Result<void>> send_descriptor(Stream& stream, int fd, std::string_view data, Instant deadline = kNever);

/// The next bytes and the descriptor that came with them. Counts as a read. Errc::end_of_file at the end.
/// ENOMSG where bytes come without one: they stay readable. EMSGSIZE where more than one comes, or the control data was
/// truncated: all of them are closed, and the bytes stay readable.
Task<Result<ReceivedDescriptor>> receive_descriptor(Stream& stream, Instant deadline = kNever);

}  // namespace evlua::net
