#include "tools/service.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/io_await.h"
#include "core/log.h"
#include "core/log_file.h"
#include "core/scope.h"
#include "core/whole_file.h"
#include "core/worker.h"
#include "tools/environment.h"

namespace evlua::tools {

namespace {

Task<void> pass_by() { co_return; }

/// What a pid file holds.
std::string pid_line(pid_t pid) { return std::to_string(pid) + "\n"; }

/// Half of what the manager waits for.
Duration watchdog_interval() noexcept {
  if (number_in_environment("WATCHDOG_PID").value_or(::getpid()) != ::getpid()) return kNever;
  const char* told = ::getenv("WATCHDOG_USEC");
  if (told == nullptr) return kNever;
  const long long microseconds = number_in_environment("WATCHDOG_USEC").value_or(-1);
  if (microseconds < 0) Log::error("WATCHDOG_USEC=%s is no time: nobody is told that the server is alive", told);
  if (microseconds <= 0 || microseconds > kNever / kMicrosecond) return kNever;
  return std::max<Duration>(microseconds * kMicrosecond / 2, kMillisecond);  // oftener would be all that is done
}

}  // namespace

void notify_manager(const std::string& state) noexcept {
  const char* path = ::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || std::strlen(path) >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(path);
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract one
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  (void)::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
  ::close(fd);
}

Task<void> feed_watchdog(Scheduler& scheduler) {
  const Duration interval = watchdog_interval();
  if (interval == kNever) co_return;
  while (true) {
    TaskScope round(scheduler);
    for (unsigned index = 0; index < scheduler.worker_count(); ++index) {
      round.spawn_on(scheduler.worker(index).pinned(), pass_by());
    }
    co_await round.join();
    notify_manager("WATCHDOG=1");
    const Result<std::int32_t> slept = co_await io::sleep_until(deadline_after(Worker::current().now(), interval));
    if (!slept && slept.error().is(ECANCELED)) co_return;
  }
}

PidFile::~PidFile() {
  if (path_.empty() || read_whole_file(path_).value_or("") != pid_line(::getpid())) return;
  if (::unlink(path_.c_str()) != 0) (void)!::truncate(path_.c_str(), 0);
}

Result<void> PidFile::check(const std::string& path) {
  if (path.empty()) return {};
  struct stat file {};
  if (::stat(path.c_str(), &file) == 0) {
    if (S_ISDIR(file.st_mode)) return fail(EISDIR);
    if (!S_ISREG(file.st_mode)) return fail(EEXIST);  // a device, a pipe: it would be replaced
    return {};
  }
  const std::string folder = path.substr(0, path.find_last_of('/') + 1);
  if (::stat(folder.empty() ? "." : folder.c_str(), &file) != 0) return fail(errno);
  return {};
}

Result<void> PidFile::prepare(const std::string& path, const Account& account) {
  if (path.empty()) return {};
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return fail(errno);
  const Result<void> given = give_file_to(fd, path.c_str(), account.user, account.group);
  ::close(fd);
  return given;
}

namespace {

/// Renamed into place: whoever reads it finds a whole one. 0 or an errno.
int replace_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + "." + std::to_string(::getpid());
  const Result<void> written = write_whole_file(temporary, text);
  if (written && ::rename(temporary.c_str(), path.c_str()) == 0) return 0;
  const int error = written ? errno : written.error().code;
  (void)::unlink(temporary.c_str());
  return error;
}

/// In a folder where we may make no file. The first line is whole from the first step on. 0 or an errno.
int overwrite_file(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const auto size = static_cast<ssize_t>(text.size());
  const bool written = ::pwrite(fd, text.data(), text.size(), 0) == size && ::ftruncate(fd, size) == 0;
  const int error = written ? 0 : errno;
  ::close(fd);
  return error;
}

}  // namespace

Result<void> PidFile::write(const std::string& path) {
  if (path.empty()) return {};
  const std::string text = pid_line(::getpid());
  int error = replace_file(path, text);
  if (error == EACCES || error == EPERM || error == EROFS) {
    const int second = overwrite_file(path, text);
    if (second != ENOENT) error = second;
  }
  if (error != 0) return fail(error);
  path_ = path;
  return {};
}

namespace {

bool is_user(const Account& account) noexcept { return ::getuid() == account.user && ::geteuid() == account.user; }

}  // namespace

tl::expected<std::optional<Account>, std::string> find_account(const std::string& user, const std::string& group) {
  if (user.empty()) {
    if (group.empty()) return std::nullopt;
    return tl::unexpected(std::string("--group needs --user"));
  }
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr) return tl::unexpected("there is no user '" + user + "'");
  Account account{user, entry->pw_uid, entry->pw_gid};
  if (group.empty()) {
    if (is_user(account)) account.group = ::getegid();
    return account;
  }
  const ::group* named = ::getgrnam(group.c_str());
  if (named == nullptr) return tl::unexpected("there is no group '" + group + "'");
  account.group = named->gr_gid;
  return account;
}

void give_socket_to(const std::string& path, const Account& account) noexcept {
  const int fd = ::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  struct stat file {};
  // Who may write to the folder must not get another's socket by a link to it.
  if (::fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_nlink == 1) {
    (void)!::fchownat(fd, "", account.user, account.group, AT_EMPTY_PATH);
  }
  ::close(fd);
}

tl::expected<void, std::string> drop_privileges(const Account& account) {
  if (is_user(account) && ::getgid() == account.group && ::getegid() == account.group) return {};
  if (::initgroups(account.name.c_str(), account.group) != 0 || ::setgid(account.group) != 0 ||
      ::setuid(account.user) != 0) {
    return tl::unexpected("cannot become user '" + account.name + "' of group " + std::to_string(account.group) + ": " +
                          std::strerror(errno));
  }
  return {};
}

}  // namespace evlua::tools
