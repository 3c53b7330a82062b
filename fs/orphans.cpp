#include "fs/orphans.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/start_thread.h"

namespace evlua::fs {

namespace {

class Orphanage {
 public:
  void adopt(pid_t pid) noexcept {
    const std::lock_guard guard(lock_);
    waiting_.push_back(pid);
    if (wake_ < 0) begin();
    const std::uint64_t one = 1;
    if (wake_ >= 0) (void)!::write(wake_, &one, sizeof one);
  }

 private:
  /// The thread ends with the process. It shall not be the one that gets a signal. Where there is none to be had, the
  /// next orphan tries again.
  void begin() noexcept {
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) return;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)::pthread_sigmask(SIG_SETMASK, &all, &before);
    Result<std::thread> thread = start_thread([this] { collect(); });
    (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (thread) return thread->detach();
    (void)::close(wake_);
    wake_ = -1;
  }

  [[noreturn]] void collect() noexcept {
    watched_.push_back({wake_, POLLIN, 0});
    while (true) {
      (void)::poll(watched_.data(), watched_.size(), -1);
      if (watched_.front().revents != 0) welcome();
      const auto gone = std::remove_if(watched_.begin() + 1, watched_.end(),
                                       [](const pollfd& child) { return child.revents != 0 && bury(child.fd); });
      watched_.erase(gone, watched_.end());
    }
  }

  /// A pidfd of our own: the other one is known to a backend, by a number that may come back.
  void welcome() noexcept {
    std::uint64_t count = 0;
    (void)!::read(wake_, &count, sizeof count);
    const std::lock_guard guard(lock_);
    for (const pid_t pid : waiting_) {
      const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U));
      if (pidfd >= 0) watched_.push_back({pidfd, POLLIN, 0});
    }
    waiting_.clear();
  }

  static bool bury(int pidfd) noexcept {
    siginfo_t info{};
    if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0) return false;
    (void)::close(pidfd);
    return true;
  }

  std::mutex lock_;
  std::vector<pid_t> waiting_;
  int wake_ = -1;
  std::vector<pollfd> watched_;  // the thread's
};

}  // namespace

void adopt_orphan(pid_t pid) noexcept {
  static auto* const orphanage = new Orphanage;  // the thread uses it to the very end
  orphanage->adopt(pid);
}

}  // namespace evlua::fs
