// An operation: plain data that says what the kernel shall do, where the result goes, and how far it has come.
//
// An Op lives in the frame that awaits it (a coroutine's awaiter, a fiber's slot) and does not move. It gets exactly
// one result. From submit until the result is delivered to `home`, the owner's backend, and through it the kernel,
// may touch the op and every buffer it points to: asking to cancel does not end that, only the result does.
//
// Life: idle -> in flight -> done. Another thread may ask once to cancel an op in flight; the ask travels in the op's
// own `cancel_node` to the owner's inbox, and the op is done only when both its result and any such node have been
// consumed (the two-count), so no stale address ever reaches the kernel.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "core/atomics.h"
#include "core/check.h"
#include "core/opcode.h"
#include "core/runnable.h"
#include "core/timer_heap.h"

struct statx;

namespace evlua {

class Worker;

inline constexpr std::uint16_t kNoBuffer = 0xffff;
/// The backend's buffers were all lent: `args.recv.data` is from malloc, and whoever takes the op's result frees it.
inline constexpr std::uint16_t kHeapBuffer = 0xfffe;

/// What each kind of operation needs. Pointers must stay valid until the result is delivered.
union OpArgs {
  struct {
    sockaddr* address;  ///< receives the peer's address; may be null
    socklen_t* length;  ///< in: room; out: size; may be null
  } accept;
  struct {
    const sockaddr* address;
    socklen_t length;
  } connect;
  struct {
    void* data;          ///< null: the backend picks a buffer, and `data` and `Op::buffer` name it afterwards
    std::uint32_t size;  ///< with data null: 0 for a whole buffer, else the most to receive
    int flags;           ///< MSG_ flags
    bool ahead;          ///< with data null: the backend may receive for the next recv already, see Backend
  } recv;
  struct {
    const void* data;
    std::uint32_t size;
    int flags;  ///< MSG_ flags; MSG_NOSIGNAL is always added
  } send;
  struct {
    msghdr* message;
    int flags;
  } message;
  struct {
    int how;  ///< SHUT_RD, SHUT_WR, SHUT_RDWR
  } shutdown;
  struct {
    std::uint32_t events;  ///< POLLIN, POLLOUT, ...
  } poll;
  struct {
    const char* path;  ///< relative to `Op::fd` (AT_FDCWD for the working directory)
    int flags;         ///< O_ flags; O_CLOEXEC is always added
    mode_t mode;
  } open;
  struct {
    void* data;
    std::uint32_t size;
    std::int64_t offset;  ///< -1: the file's own position
  } read;
  struct {
    const void* data;
    std::uint32_t size;
    std::int64_t offset;  ///< -1: the file's own position
  } write;
  struct {
    bool data_only;
  } fsync;
  struct {
    std::int64_t size;
  } truncate;
  struct {
    int pipe;             ///< the end that is used; a full or an empty pipe is EAGAIN, nobody waits for it
    std::uint32_t size;   ///< at most
    std::int64_t offset;  ///< in the file `Op::fd`
    bool from_pipe;       ///< the file is written to
  } splice;
  struct {
    const char* path;  ///< with "" and AT_EMPTY_PATH in flags: `Op::fd` itself
    int flags;         ///< AT_ flags
    struct statx* out;
  } stat;
  struct {
    const char* from;
    const char* to;
    unsigned flags;  ///< RENAME_ flags
  } rename;
  struct {
    const char* path;
    int flags;  ///< AT_REMOVEDIR for rmdir
  } unlink;
  struct {
    const char* path;
    mode_t mode;
  } mkdir;
};

/// Why an operation was stopped before it ended by itself.
enum class OpStop : std::uint8_t { none, cancelled, deadline };

/// Carries a foreign thread's ask to cancel to the op's owner.
struct CancelMessage {
  Runnable cancel_node;
};

/// `TimerNode::deadline` is the op's deadline, kNever by default.
struct Op : Runnable, TimerNode, CancelMessage {
  Executor* home = nullptr;  ///< receives the op when it is done, through enqueue
  Worker* owner = nullptr;   ///< whose backend holds it; set once, by submit
  OpCode code = OpCode::nop;
  OpStop why = OpStop::none;         ///< owner thread only, until done
  std::uint16_t buffer = kNoBuffer;  ///< recv with a chosen buffer: its id
  std::int32_t res = 0;              ///< the result: >= 0, or a negated errno
  int fd = -1;
  std::uint8_t backend_state = 0;  ///< belongs to the backend while in flight
  StdAtomics::Atomic<std::uint8_t> state{0};
  std::uint16_t backend_data = 0;  ///< belongs to the backend while in flight
  Instant done_at = 0;             ///< when its worker got to know the result: since then it waits to be looked at
  OpArgs args{};

  Op() = default;
  Op(OpCode op_code, int descriptor) : code(op_code), fd(descriptor) {}
  /// The frame must outlive the operation: destroying an op in flight is a broken invariant.
  ~Op() { EVLUA_CHECK(state.load(std::memory_order_relaxed) == 0); }

  bool in_flight() const noexcept { return (state.load(std::memory_order_relaxed) & kInFlight) != 0; }

  /// What the caller is told: res, with ECANCELED turned into ETIMEDOUT when it was the deadline that stopped it.
  /// A result that won the race against the stop is a result.
  std::int32_t outcome() const noexcept;

  // Bits of `state`. kInFlight is set by submit and cleared by the owner; kCancelPosted is set by the one thread
  // that posts cancel_node and cleared by the owner when it consumes the node.
  static constexpr std::uint8_t kInFlight = 1;
  static constexpr std::uint8_t kCancelPosted = 2;
};
static_assert(sizeof(Op) <= 144, "an operation is embedded in every waiting frame");

}  // namespace evlua
