// How the io_uring backend notes, in the fields an Op lends to its backend, where the op is and what is special about
// it; and how completions are told apart by their user_data. For the files of this folder only.
#pragma once

#include <cstdint>

#include "core/op.h"

namespace evlua::uring {

// Op::backend_state. Exactly kInKernel is the common case: one comparison in the reap loop rules out all others.
inline constexpr std::uint8_t kPlaceMask = 0x07;
inline constexpr std::uint8_t kInKernel = 1;     // or in an entry the kernel takes at the next entering
inline constexpr std::uint8_t kInBacklog = 2;    // linked into the backlog
inline constexpr std::uint8_t kInPool = 3;       // a pool thread makes the system call
inline constexpr std::uint8_t kIsDone = 4;       // result is in, not yet delivered
inline constexpr std::uint8_t kInFifoQueue = 5;  // open of a FIFO: enough threads wait for other ends already
inline constexpr std::uint8_t kCancelAsked = 0x10;
inline constexpr std::uint8_t kCancelQueued = 0x20;  // in the kernel, and linked into the list of asks to cancel
inline constexpr std::uint8_t kSpecial = 0x40;       // backend_data says what

// Op::backend_data, valid when kSpecial is set.
inline constexpr std::uint16_t kOwnBuffer = 0x01;    // recv into memory from malloc, for want of a lent buffer
inline constexpr std::uint16_t kForceThread = 0x02;  // a kernel thread must make the call, blocking
inline constexpr std::uint16_t kWaitsReady = 0x04;   // the entry is a poll; the operation is tried after it
inline constexpr std::uint16_t kCheckOpened = 0x08;  // open: look at what was opened, see fifo.cpp
inline constexpr std::uint16_t kFifoReader = 0x10;   // open: Op::res is a reader's descriptor that waits for a writer
inline constexpr std::uint16_t kThreadOpens = 0x20;  // kFifoReader: the second open is in the kernel
inline constexpr std::uint16_t kHeldPolled = 0x40;   // kFifoReader: the poll of Op::res is in the kernel
inline constexpr std::uint16_t kWriterCame = 0x80;   // kFifoReader: what was waited for

inline std::uint16_t special(const Op& op) noexcept {
  return (op.backend_state & kSpecial) != 0 ? op.backend_data : std::uint16_t{0};
}
inline void set_special(Op& op, unsigned bits) noexcept {
  op.backend_data = static_cast<std::uint16_t>(special(op) | bits);
  op.backend_state |= kSpecial;
}
inline void clear_special(Op& op, unsigned bits) noexcept {
  op.backend_data = static_cast<std::uint16_t>(special(op) & ~bits);
}
inline std::uint8_t place(const Op& op) noexcept { return op.backend_state & kPlaceMask; }
inline void set_place(Op& op, std::uint8_t where) noexcept {
  op.backend_state = static_cast<std::uint8_t>((op.backend_state & ~kPlaceMask) | where);
}

// The low bits of user_data; an Op's address has them clear.
inline constexpr std::uint64_t kTagMask = 7;
inline constexpr std::uint64_t kTagOp = 0;
inline constexpr std::uint64_t kTagReady = 1;    // + the op's address: a poll the op needs
inline constexpr std::uint64_t kTagCancel = 2;   // an ask to cancel came too late
inline constexpr std::uint64_t kTagWake = 3;     // another thread wants this worker awake
inline constexpr std::uint64_t kTagEventFd = 4;  // the same, on kernels where it takes an eventfd
inline constexpr std::uint64_t kTagPeer = 5;     // + the peer's ring descriptor << 3: our message did not reach it
inline constexpr std::uint64_t kTagAhead = 6;    // + the address of an AheadReceiver
static_assert(alignof(Op) >= 8);

/// Kernel threads per worker for calls that block on files and paths. The kernel's own default is four per processor.
inline constexpr unsigned kFileThreadsMax = 64;

inline std::uint64_t user_data_of(const Op& op, std::uint64_t tag) noexcept {
  return reinterpret_cast<std::uintptr_t>(&op) | tag;
}

}  // namespace evlua::uring
