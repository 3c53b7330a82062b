// One look-up by c-ares, which waits through the worker's backend.
//
// Each look-up has a channel of its own, so that it may run on any worker, can be ended at any time, and asks from a
// port of its own that nobody can guess. The channel's sockets are in a PollSet, the one descriptor that the backend
// polls.
#pragma once

#include "core/error.h"
#include "core/task.h"
#include "core/time.h"
#include "net/dns/poll_set.h"
#include "net/dns/settings.h"

struct ares_channeldata;

namespace evlua::net {

/// The error for a status of c-ares.
Error dns_error(int status) noexcept;

/// Lives in the frame of the coroutine that uses it, behind what its callbacks write to.
class DnsChannel {
 public:
  DnsChannel() = default;
  DnsChannel(const DnsChannel&) = delete;
  DnsChannel& operator=(const DnsChannel&) = delete;
  /// Calls the callbacks that are due still. [worker]
  ~DnsChannel();

  /// `only_files`: nobody is asked, only /etc/hosts is read.
  Result<void> open(const DnsSettings& settings, bool only_files = false);
  ares_channeldata* get() const noexcept { return channel_; }

  /// Waits and works until a callback has set `done`. ETIMEDOUT or ECANCELED when it was not that.
  Task<Result<void>> run(const bool& done, Instant deadline);

 private:
  static void on_socket_state(void* self, int fd, int readable, int writable) noexcept;
  void process() noexcept;

  ares_channeldata* channel_ = nullptr;
  PollSet sockets_;
};

}  // namespace evlua::net
