// What this kernel's io_uring can do, and why it may refuse us. Constants that liburing 2.3 does not know live here.
#pragma once

#include <cstdint>
#include <string>

#include "core/opcode.h"

namespace evlua {

class Ring;

// Kernel interface younger than liburing 2.3.
inline constexpr std::uint8_t kOpFtruncate = 55;          // IORING_OP_FTRUNCATE, 6.9
inline constexpr unsigned kRegisterSendMsgRing = 31;      // IORING_REGISTER_SEND_MSG_RING, 6.13
inline constexpr unsigned kEnterAbsoluteTimer = 1U << 5;  // IORING_ENTER_ABS_TIMER, 6.12
inline constexpr unsigned kEnterNoIowait = 1U << 7;       // IORING_ENTER_NO_IOWAIT, 6.15
inline constexpr unsigned kFeatureMinTimeout = 1U << 15;  // IORING_FEAT_MIN_TIMEOUT, came with ABS_TIMER
inline constexpr unsigned kFeatureNoIowait = 1U << 17;    // IORING_FEAT_NO_IOWAIT

/// What is used when it is there. Everything else we need is in each kernel that has DEFER_TASKRUN (6.1).
struct UringFeatures {
  bool truncate = true;        ///< IORING_OP_FTRUNCATE; otherwise the blocking pool truncates
  bool absolute_timer = true;  ///< deadlines are passed as they are, without reading the clock
  bool no_iowait = true;       ///< a sleeping server is not shown as waiting for a disk
  bool send_msg_ring = true;   ///< any thread can wake a ring without owning one; otherwise an eventfd does
};

/// Asks the kernel; what `allowed` denies stays off, so tests can walk the paths of older kernels.
UringFeatures probe_features(Ring& ring, const UringFeatures& allowed);

/// The required operation this kernel lacks, or null.
const char* missing_operation(Ring& ring);

/// What decides how a refusal is explained.
struct UringSurroundings {
  int disabled_sysctl = -1;  ///< kernel.io_uring_disabled, or -1 when there is no such file
  bool seccomp = false;      ///< this process runs under a seccomp filter
  std::string kernel;        ///< release, as uname -r prints it
};
UringSurroundings look_around();

/// One sentence for people: why io_uring_setup failed with `errno_value`, and the cure.
std::string explain_refusal(int errno_value, const UringSurroundings& surroundings);

/// Tries io_uring on the calling thread. Empty when it can be used, else the cause and the cure. [any thread]
std::string uring_refusal();

}  // namespace evlua
