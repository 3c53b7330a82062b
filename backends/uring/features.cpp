#include "backends/uring/features.h"

#include <sys/utsname.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <sstream>

#include "backends/uring/ring.h"
#include "core/whole_file.h"

namespace evlua {
namespace {

struct FreeProbe {
  void operator()(io_uring_probe* probe) const noexcept { io_uring_free_probe(probe); }
};
using Probe = std::unique_ptr<io_uring_probe, FreeProbe>;

bool supports(const Probe& probe, unsigned opcode) {
  return probe != nullptr && opcode <= probe->last_op && (probe->ops[opcode].flags & IO_URING_OP_SUPPORTED) != 0;
}

bool can_send_msg_ring() {
  io_uring_sqe sqe;
  std::memset(&sqe, 0, sizeof(sqe));
  sqe.opcode = IORING_OP_MSG_RING;
  // A flag is never allowed here: a kernel that knows the call says EINVAL, an older one takes -1 for a bad descriptor.
  sqe.flags = IOSQE_ASYNC;
  return io_uring_register(static_cast<unsigned>(-1), kRegisterSendMsgRing, &sqe, 1) == -EINVAL;
}

struct Required {
  unsigned opcode;
  const char* name;
};
constexpr Required kRequired[] = {
    {IORING_OP_NOP, "nop"},           {IORING_OP_ACCEPT, "accept"},       {IORING_OP_CONNECT, "connect"},
    {IORING_OP_RECV, "recv"},         {IORING_OP_SEND, "send"},           {IORING_OP_RECVMSG, "recvmsg"},
    {IORING_OP_SENDMSG, "sendmsg"},   {IORING_OP_SHUTDOWN, "shutdown"},   {IORING_OP_CLOSE, "close"},
    {IORING_OP_POLL_ADD, "poll"},     {IORING_OP_OPENAT, "openat"},       {IORING_OP_READ, "read"},
    {IORING_OP_WRITE, "write"},       {IORING_OP_FSYNC, "fsync"},         {IORING_OP_STATX, "statx"},
    {IORING_OP_RENAMEAT, "renameat"}, {IORING_OP_UNLINKAT, "unlinkat"},   {IORING_OP_MKDIRAT, "mkdirat"},
    {IORING_OP_MSG_RING, "msg_ring"}, {IORING_OP_ASYNC_CANCEL, "cancel"}, {IORING_OP_SPLICE, "splice"},
};

std::string with_errno(int errno_value) {
  return std::string(std::strerror(errno_value)) + " (errno " + std::to_string(errno_value) + ")";
}

std::string explain_permission(const UringSurroundings& around) {
  if (around.disabled_sysctl == 2) {
    return "kernel.io_uring_disabled=2 forbids io_uring to every process; cure: sysctl kernel.io_uring_disabled=0";
  }
  if (around.disabled_sysctl == 1) {
    return "kernel.io_uring_disabled=1 allows io_uring only to members of kernel.io_uring_group and to CAP_SYS_ADMIN; "
           "cure: add this user to that group, or sysctl kernel.io_uring_disabled=0";
  }
  if (around.seccomp) {
    return "a seccomp filter forbids io_uring_setup, the default in Docker, containerd and Kubernetes; cure: run the "
           "container with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (docker run "
           "--security-opt seccomp=PROFILE.json; Kubernetes: securityContext.seccompProfile)";
  }
  return "a security policy of this system forbids io_uring_setup (EPERM; SELinux, AppArmor or another security "
         "module); cure: allow io_uring for this program in that policy";
}

}  // namespace

UringFeatures probe_features(Ring& ring, const UringFeatures& allowed) {
  const Probe probe(io_uring_get_probe_ring(ring.raw()));
  UringFeatures found;
  found.truncate = allowed.truncate && supports(probe, kOpFtruncate);
  found.absolute_timer = allowed.absolute_timer && (ring.features() & kFeatureMinTimeout) != 0;
  found.no_iowait = allowed.no_iowait && (ring.features() & kFeatureNoIowait) != 0;
  found.send_msg_ring = allowed.send_msg_ring && can_send_msg_ring();
  return found;
}

const char* missing_operation(Ring& ring) {
  const Probe probe(io_uring_get_probe_ring(ring.raw()));
  for (const Required& required : kRequired) {
    if (!supports(probe, required.opcode)) return required.name;
  }
  return nullptr;
}

UringSurroundings look_around() {
  UringSurroundings around;
  std::istringstream(read_whole_file("/proc/sys/kernel/io_uring_disabled").value_or("")) >> around.disabled_sysctl;
  if (around.disabled_sysctl < 0 || around.disabled_sysctl > 2) around.disabled_sysctl = -1;
  std::istringstream status(read_whole_file("/proc/self/status").value_or(""));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Seccomp:")) around.seccomp = line.find_first_of("12", 8) != std::string::npos;
  }
  utsname names{};
  if (::uname(&names) == 0) around.kernel = names.release;
  return around;
}

std::string explain_refusal(int errno_value, const UringSurroundings& around) {
  switch (errno_value) {
    case EPERM:
    case EACCES: return explain_permission(around);
    case ENOSYS:
      if (around.seccomp) {
        return "io_uring_setup does not exist here: this sandbox (gVisor, or a seccomp filter that answers ENOSYS) "
               "hides "
               "it; cure: use a sandbox profile that allows io_uring";
      }
      return "kernel " + around.kernel + " was built without io_uring or is too old; cure: Linux 6.1 or newer";
    case EINVAL:
      return "kernel " + around.kernel + " is too old: its io_uring lacks DEFER_TASKRUN; cure: Linux 6.1 or newer";
    case ENOMEM:
      return "io_uring_setup found no memory: the limit on locked memory or the memory limit of the container is too "
             "low; cure: raise it (ulimit -l unlimited; LimitMEMLOCK= in a systemd unit)";
    case EMFILE:
    case ENFILE: return "no descriptor is left for the ring; cure: raise the limit (ulimit -n)";
    default: return "io_uring_setup failed: " + with_errno(errno_value);
  }
}

std::string uring_refusal() {
  Ring ring;
  const int result = ring.open({.submissions = 4, .completions = 16});
  if (result < 0) return explain_refusal(-result, look_around());
  const char* missing = missing_operation(ring);
  if (missing == nullptr) return {};
  return "the io_uring of kernel " + look_around().kernel + " lacks the operation " + missing +
         "; cure: Linux 6.1 or newer";
}

}  // namespace evlua
