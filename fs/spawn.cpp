#include "fs/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "core/blocking.h"
#include "core/descriptor_limit.h"
#include "core/worker.h"

namespace evlua::fs {

namespace {

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

std::string_view search_path(const SpawnOptions& options) {
  constexpr std::string_view kName = "PATH=";
  if (options.environment) {
    for (const std::string& entry : *options.environment) {
      if (entry.compare(0, kName.size(), kName) == 0) return std::string_view(entry).substr(kName.size());
    }
  } else if (const char* ours = std::getenv("PATH"); ours != nullptr) {
    return ours;
  }
  return "/usr/local/bin:/usr/bin:/bin";
}

/// The paths under which execve is tried, in order.
std::vector<std::string> candidates(const SpawnOptions& options) {
  const std::string& program = options.program;
  if (program.empty() || program.find('/') != std::string::npos) return {program};
  std::string_view rest = search_path(options);
  std::vector<std::string> paths;
  while (true) {
    const std::size_t colon = rest.find(':');
    const std::string_view folder = rest.substr(0, colon);
    paths.push_back((folder.empty() ? std::string(".") : std::string(folder)) + "/" + program);
    if (colon == std::string_view::npos) return paths;
    rest.remove_prefix(colon + 1);
  }
}

/// Everything the child needs, prepared by the parent: between vfork and execve nothing may be allocated, and what the
/// child writes to memory, the parent sees.
struct Plan {
  std::vector<char*> paths;
  std::vector<char*> arguments;
  std::vector<char*> environment;
  const SpawnOptions* options;
  char* const* envp;
  // Volatile: the compiler knows that nothing comes after _exit, and not that the parent reads this then.
  volatile int error = 0;
  volatile SpawnStep step = SpawnStep::none;
};

/// In the child. System calls themselves where glibc would tell all threads, which are the parent's.
int become(const SpawnOptions& options) noexcept {
  if (options.group) {
    const bool one = options.groups.empty();
    const gid_t* groups = one ? &*options.group : options.groups.data();
    if (::syscall(SYS_setgroups, one ? 1 : options.groups.size(), groups) != 0) return errno;
    if (::syscall(SYS_setresgid, *options.group, *options.group, *options.group) != 0) return errno;
  } else if (options.user && ::syscall(SYS_setgroups, 0, nullptr) != 0) {
    return errno;
  }
  if (options.user && ::syscall(SYS_setresuid, *options.user, *options.user, *options.user) != 0) return errno;
  return 0;
}

/// In the child.
void close_from(int first) noexcept {
  if (::syscall(SYS_close_range, static_cast<unsigned>(first), UINT_MAX, 0U) == 0) return;
  const long most = ::sysconf(_SC_OPEN_MAX);
  for (int fd = first; fd < static_cast<int>(most < 0 || most > 65536 ? 65536 : most); ++fd) (void)::close(fd);
}

/// In the child: puts the descriptors at 0, 1 and 2, whatever numbers they have.
int place_stdio(const std::array<int, 3>& wanted) noexcept {
  std::array<int, 3> from = wanted;
  for (int target = 0; target < 3; ++target) {
    int& fd = from[static_cast<std::size_t>(target)];
    if (fd >= 0 && fd < 3 && fd != target) {  // out of the way of the others
      fd = ::fcntl(fd, F_DUPFD, 3);
      if (fd < 0) return errno;
    }
  }
  for (int target = 0; target < 3; ++target) {
    const int fd = from[static_cast<std::size_t>(target)];
    if (fd == target) {
      (void)::fcntl(fd, F_SETFD, 0);
    } else if (fd >= 0 && ::dup2(fd, target) < 0) {
      return errno;
    }
  }
  return 0;
}

/// In the child.
int place_descriptors(const SpawnOptions& options) noexcept {
  if (const int error = place_stdio(options.stdio); error != 0) return error;
  if (!options.inherited) {
    close_from(3);
    return 0;
  }
  for (const int fd : *options.inherited) {
    if (::fcntl(fd, F_SETFD, 0) != 0) return errno;
  }
  return 0;
}

/// In the child: nothing handled or ignored that is ours, and nothing blocked that was not asked for.
void restore_signals(const std::vector<int>& wanted) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction current {};
    if (::sigaction(signal, nullptr, &current) != 0) continue;
    const bool ours = signal == SIGPIPE || current.sa_handler != SIG_IGN;
    if (ours && current.sa_handler != SIG_DFL) (void)::sigaction(signal, &standard, nullptr);
  }
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : wanted) sigaddset(&blocked, signal);
  (void)::sigprocmask(SIG_SETMASK, &blocked, nullptr);
}

[[noreturn]] void give_up(Plan& plan, SpawnStep step, int error) noexcept {
  plan.step = step;
  plan.error = error;
  ::_exit(127);
}

int leave_group(const SpawnOptions& options) noexcept {
  if (options.new_session) return ::setsid() < 0 ? errno : 0;
  if (options.new_group) return ::setpgid(0, 0) != 0 ? errno : 0;
  return 0;
}

[[noreturn]] void run_child(Plan& plan) noexcept {
  const SpawnOptions& options = *plan.options;
  restore_signals(options.blocked);
  int error = leave_group(options);
  if (error == 0) error = place_descriptors(options);
  if (error != 0) give_up(plan, SpawnStep::prepare, error);
  restore_descriptor_limit();
  error = become(options);
  if (error != 0) give_up(plan, SpawnStep::user, error);
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) {
    give_up(plan, SpawnStep::directory, errno);
  }
  for (std::size_t i = 0; error == 0 || error == ENOENT || error == ENOTDIR || error == EACCES; ++i) {
    if (plan.paths[i] == nullptr) break;
    (void)::execve(plan.paths[i], plan.arguments.data(), plan.envp);
    if (error != EACCES || errno != ENOENT) error = errno;  // as execvp: "permission denied" tells more
  }
  give_up(plan, SpawnStep::program, error);
}

// Not inlined: what a vfork child shares with its parent is this frame, and it must not hold anything else.
__attribute__((noinline)) pid_t start_child(Plan& plan) noexcept {
  const pid_t pid = ::vfork();
  if (pid == 0) run_child(plan);
  return pid;
}

/// For what fails on our side of the fork.
tl::unexpected<Error> failed_here(Plan& plan, int error) noexcept {
  plan.step = SpawnStep::prepare;
  return fail(error);
}

Result<Child> start(Plan& plan) noexcept {
  // No handler of ours may run in the child, which shares our memory.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  (void)::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = start_child(plan);
  const int error = pid < 0 ? errno : plan.error;
  (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return failed_here(plan, error);
  if (error != 0) {
    (void)::waitpid(pid, nullptr, 0);
    return fail(error);
  }
  // Nobody else waits for it, so that the number is still its own.
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U));
  if (pidfd >= 0) return Child{pid, pidfd};
  const int why = errno;
  (void)::kill(pid, SIGKILL);
  (void)::waitpid(pid, nullptr, 0);
  return failed_here(plan, why);
}

}  // namespace

Result<Child> spawn_blocking(const SpawnOptions& options, SpawnStep* failed) noexcept {
  const std::vector<std::string> paths = candidates(options);
  Plan plan{pointers_to(paths), pointers_to(options.arguments), {}, &options, environ, 0, SpawnStep::none};
  if (options.environment) {
    plan.environment = pointers_to(*options.environment);
    plan.envp = plan.environment.data();
  }
  const Result<Child> child = start(plan);
  if (failed != nullptr) *failed = plan.step;
  return child;
}

Task<Result<Child>> spawn(SpawnOptions options) {
  auto call = blocking(Worker::current().pool(), [&options] { return spawn_blocking(options); });
  std::optional<Result<Child>> child = co_await call;
  if (!child) co_return fail(ECANCELED);
  co_return *child;
}

Result<std::array<int, 2>> make_pipe() noexcept {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(errno);
  return ends;
}

}  // namespace evlua::fs
