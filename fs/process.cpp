#include "fs/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "core/blocking.h"
#include "core/io_await.h"
#include "core/worker.h"
#include "fs/account.h"
#include "fs/orphans.h"

namespace evlua::fs {

// -- a process ------------------------------------------------------------------------------------------------------

Process& Process::operator=(Process&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(waiting_, other.waiting_);
  std::swap(group_ends_, other.group_ends_);
  std::swap(status_, other.status_);
  return *this;
}

Process::~Process() {
  if (pidfd_ < 0) return;
  if (!look()) {
    adopt_orphan(pid_);
    close_pidfd();
  }
}

/// Not while somebody waits: another worker's poller would never tell of it.
void Process::close_pidfd() noexcept {
  if (waiting_ > 0 || pidfd_ < 0) return;
  const File closing(std::exchange(pidfd_, -1), false);
}

const std::optional<ExitStatus>& Process::look() noexcept {
  if (status_ || pidfd_ < 0) return status_;
  siginfo_t info{};
  if (group_ends_) {
    // Before it is collected: so long its number names the group, of which some may not have listened.
    (void)::waitid(P_PIDFD, static_cast<id_t>(pidfd_), &info, WEXITED | WNOHANG | WNOWAIT);
    if (info.si_pid == 0) return status_;
    (void)::kill(-pid_, SIGKILL);
    info = {};
  }
  const int result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd_), &info, WEXITED | WNOHANG);
  if (result == 0 && info.si_pid == 0) return status_;
  // An error would mean that somebody has collected our child; nothing more will be known of it.
  ExitStatus status{-1, 0};
  if (result == 0) status = info.si_code == CLD_EXITED ? ExitStatus{info.si_status, 0} : ExitStatus{0, info.si_status};
  status_ = status;
  close_pidfd();
  return status_;
}

Task<Result<void>> Process::ended(Instant deadline) {
  ++waiting_;
  IoAwait op(OpCode::poll, pidfd_, OpArgs{.poll = {POLLIN}});
  op.until(deadline);
  const Result<std::int32_t> polled = co_await op;
  --waiting_;
  if (status_) close_pidfd();  // somebody else has collected it
  if (!polled) co_return fail(polled.error().code);
  co_return Result<void>();
}

Task<Result<void>> Process::wait(Instant deadline) {
  if (look()) co_return Result<void>();
  const Result<void> over = co_await ended(deadline);
  if (look()) co_return Result<void>();
  if (!over) co_return fail(over.error());
  co_return fail(EAGAIN);
}

Result<void> Process::signal(int number) noexcept {
  if (status_ || pidfd_ < 0) return fail(ESRCH);
  if (::syscall(SYS_pidfd_send_signal, pidfd_, number, nullptr, 0U) != 0) return fail(errno);
  return {};
}

/// Until it has been collected, its number is its own, and so is the group's.
Result<void> Process::signal_group(int number) noexcept {
  if (status_ || pidfd_ < 0) return fail(ESRCH);
  if (::kill(-pid_, number) != 0) return fail(errno);
  return {};
}

Task<void> Process::stop(Stop how) {
  group_ends_ = group_ends_ || how.group;
  if (how.grace > 0 && !status_) {
    const Result<void> sent = how.group ? signal_group(SIGTERM) : signal(SIGTERM);
    (void)sent;
    const Result<void> over = co_await ended(deadline_after(monotonic_now(), how.grace));
    (void)over;
  }
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  context.deadline = kNever;
  while (!look()) {
    (void)(how.group ? signal_group(SIGKILL) : signal(SIGKILL));
    const Result<void> over = co_await wait(kNever);
    (void)over;
  }
}

// -- launching ------------------------------------------------------------------------------------------------------

namespace {

struct Ends {
  std::array<File, 3> ours;
  std::array<File, 3> childs;
};

/// Non-blocking or not as the worker's backend wants; the child's end stays as it is.
void set_mode(int fd) noexcept {
  if (Worker::current().backend().capabilities().nonblocking_sockets) (void)::fcntl(fd, F_SETFL, O_NONBLOCK);
}

int open_end(Stdio& wanted, std::size_t target, Ends& ends) noexcept {
  switch (wanted.kind) {
    case Stdio::Kind::inherit:
    case Stdio::Kind::output: return 0;
    case Stdio::Kind::file: ends.childs[target] = std::move(wanted.file); return 0;
    case Stdio::Kind::null: {
      const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      if (fd < 0) return errno;
      ends.childs[target] = File(fd, false);
      return 0;
    }
    case Stdio::Kind::pipe: break;
  }
  const Result<std::array<int, 2>> pipe = make_pipe();
  if (!pipe) return pipe.error().code;
  const bool child_reads = target == 0;
  ends.ours[target] = File((*pipe)[child_reads ? 1 : 0], false);
  ends.childs[target] = File((*pipe)[child_reads ? 0 : 1], false);
  set_mode(ends.ours[target].fd());
  return 0;
}

int open_ends(LaunchOptions& options, Ends& ends) noexcept {
  for (std::size_t target = 0; target < 3; ++target) {
    if (const int error = open_end(options.stdio[target], target, ends); error != 0) return error;
    options.spawn.stdio[target] = ends.childs[target].fd();
  }
  if (options.stdio[2].kind == Stdio::Kind::output) {
    options.spawn.stdio[2] = options.spawn.stdio[1] >= 0 ? options.spawn.stdio[1] : STDOUT_FILENO;
  }
  return 0;
}

/// False: there is no such user or group.
bool find_names(LaunchOptions& options) {
  SpawnOptions& spawn = options.spawn;
  if (!options.user.empty()) {
    const std::optional<Account> account = find_user(options.user);
    if (!account) return false;
    const bool is_us = account->user == ::getuid() && account->user == ::geteuid();
    if (is_us && options.group.empty()) return true;  // which everybody may be
    spawn.user = account->user;
    spawn.group = account->group;
    spawn.groups = account->groups;
  }
  if (!options.group.empty()) {
    spawn.group = find_group(options.group);
    spawn.groups.clear();
  }
  return options.group.empty() || spawn.group.has_value();
}

}  // namespace

Task<Launched> launch(LaunchOptions options) {
  Launched launched;
  Ends ends;
  launched.error = open_ends(options, ends);
  if (launched.error != 0) {
    launched.step = SpawnStep::prepare;
    co_return launched;
  }
  auto call = blocking(Worker::current().pool(), [&options, &launched] {
    if (!find_names(options)) {
      launched.step = SpawnStep::user;
      launched.unknown_name = true;
      return Result<Child>(fail(ENOENT));
    }
    return spawn_blocking(options.spawn, &launched.step);
  });
  const std::optional<Result<Child>> child = co_await call;
  if (!child) {
    launched.error = ECANCELED;
    launched.step = SpawnStep::prepare;
  } else if (!*child) {
    launched.error = child->error().code;
  } else {
    launched.process = Process(**child);
    launched.pipes = std::move(ends.ours);
  }
  co_return launched;
}

}  // namespace evlua::fs
