// A connection's output on its way to the kernel, and whether the peer takes it in time.
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/station.h"

namespace evlua::http {

/// Sends as it is.
Task<void> Connection::send_plain(std::string_view bytes) {
  while (!bytes.empty() && error_.code == 0) {
    IoAwait send = io::send(fd_, bytes.data(), static_cast<std::uint32_t>(bytes.size()));
    begin_send(send);
    const Result<std::int32_t> taken = co_await send;
    waiting_ = nullptr;
    if (taken) {
      end_send(send.done_at, static_cast<std::uint64_t>(*taken));
      bytes.remove_prefix(static_cast<std::size_t>(*taken));
    } else {
      send_failed(taken.error());
    }
  }
}

/// The file that is the body of the response, from the page cache to the socket.
Task<void> Connection::send_attached() {
  const std::unique_ptr<FileBody> body = std::move(exchange_->attached_);
  for (FileBody::Part& part : body->parts) {
    if (!part.head.empty()) co_await send_plain(part.head);
    while (part.size > 0 && error_.code == 0) {
      const Result<std::size_t> sent = send_cached(fd_, body->file.fd, part.offset, part.size);
      std::uint64_t done = sent ? *sent : 0;
      if (!sent && sent.error().is(EAGAIN)) {
        IoAwait writable = io::poll(fd_, POLLOUT);
        begin_send(writable);
        const Result<std::int32_t> ready = co_await writable;
        waiting_ = nullptr;
        if (ready) {
          end_send(writable.done_at, 0);
        } else {
          send_failed(ready.error());
        }
      } else if (!sent && sent.error().is(EXDEV)) {
        done = std::min<std::uint64_t>(part.size, kDiskPiece);
        co_await send_from_disk(body->file.fd, part.offset, done);
      } else if (!sent || done == 0) {  // 0: it has become shorter, and the client must notice
        send_failed(sent ? Error{EIO, ErrorDomain::system, OpCode::read} : sent.error());
      }
      part.offset += done;
      part.size -= done;
      exchange_->body_bytes_ += done;
      if (!sent) continue;
      end_send(wait_began_, done);
    }
  }
  if (!body->tail.empty()) co_await send_plain(body->tail);
}

/// What has to be waited for: as it is, or sealed on a connection with TLS.
Task<void> Connection::send_from_disk(int file, std::uint64_t offset, std::uint64_t size) {
  const auto buffer = std::make_unique<char[]>(static_cast<std::size_t>(size));
  while (size > 0 && error_.code == 0) {
    IoAwait reading = io::read(file, buffer.get(), static_cast<std::uint32_t>(size), static_cast<std::int64_t>(offset));
    const Result<std::int32_t> got = co_await reading;
    if (!got || *got == 0) {
      send_failed(got ? Error{EIO, ErrorDomain::system, OpCode::read} : got.error());
      co_return;
    }
    const std::string_view piece(buffer.get(), static_cast<std::size_t>(*got));
    if (secure_ == nullptr) {
      co_await send_plain(piece);
    } else {
      seal(piece);
      co_await send_sealed();
    }
    offset += piece.size();
    size -= piece.size();
  }
}

/// The next sweep looks whether it lasts.
void Connection::begin_send(Op& op) noexcept {
  waiting_ = &op;
  timed_out_ = false;
  wait_began_ = deadline_ = station_.worker().now();
  unacknowledged_ = -1;
}

/// `taken`: by the kernel, which holds it for the peer, at `ended`; since then we had other things to do.
void Connection::end_send(Instant ended, std::uint64_t taken) noexcept {
  station_.counters().bytes_out.add(taken);
  const std::uint64_t known = std::min<std::uint64_t>(taken, taken_ahead_);
  taken_ahead_ -= static_cast<std::uint32_t>(known);
  const Limits& limits = station_.limits();
  sending_.spend(ended - wait_began_, taken - known, limits.send_timeout, limits.min_rate);
}

/// A kernel that has no room for more may still be sending what it has: the peer takes that, so it counts.
bool Connection::send_is_late(Instant now) noexcept {
  int held = 0;
  if (::ioctl(fd_, SIOCOUTQ, &held) != 0) held = 0;
  const int before = std::exchange(unacknowledged_, held);
  if (before > held) {
    const auto taken = static_cast<std::uint32_t>(before - held);
    const Limits& limits = station_.limits();
    sending_.spend(now - wait_began_, taken, limits.send_timeout, limits.min_rate);
    wait_began_ = now;
    taken_ahead_ += taken;
  }
  deadline_ = deadline_after(wait_began_, sending_.left());
  return now >= deadline_;
}

void Connection::send_failed(const Error& error) noexcept {
  if (error_.code != 0) return;
  error_ = timed_out_ ? Error{ETIMEDOUT, ErrorDomain::system, OpCode::send} : error;
  reset_ = reset_ || timed_out_;  // the kernel shall not go on sending what it has
  const bool ended = phase_ == Phase::head || phase_ == Phase::drain || (phase_ == Phase::closing && !output_.empty());
  if (ended && served_ && http2_ == nullptr) station_.counters().aborted.add();  // its end was told as good
}

}  // namespace evlua::http
