#include "tools/handover.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <sstream>
#include <string_view>
#include <utility>

#include "core/log.h"
#include "fs/spawn.h"
#include "tools/environment.h"

namespace evlua::tools {

namespace {

constexpr const char* kSockets = "EVLUA_SOCKETS";
constexpr const char* kReady = "EVLUA_READY_FD";
constexpr int kFirstFromSystemd = 3;

constexpr int kLookInterval = 50;  // milliseconds, at whether a successor is still wanted

int predecessor_fd = -1;  // where to say that we serve

void take_from_predecessor(http::HandedSockets& sockets) {
  const char* text = ::getenv(kSockets);
  if (text == nullptr) return;
  std::istringstream lines(text);
  std::string name;
  for (int fd = 0; lines >> fd && std::getline(lines >> std::ws, name);) (void)sockets.add(fd, name);
  ::unsetenv(kSockets);
}

/// The error is what to print.
tl::expected<void, std::string> take_from_systemd(http::HandedSockets& sockets) {
  const bool ours = number_in_environment("LISTEN_PID") == ::getpid();
  const char* told = ours ? ::getenv("LISTEN_FDS") : nullptr;
  const std::string text = std::string("LISTEN_FDS=") + (told != nullptr ? told : "0");
  const long long count = told != nullptr ? number_in_environment("LISTEN_FDS").value_or(-1) : 0;
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  if (count < 0) return tl::unexpected(text + " is no number of sockets");
  for (int fd = kFirstFromSystemd; fd - kFirstFromSystemd < count; ++fd) {  // which ends at what is not open
    if (sockets.add(fd, "")) continue;
    const bool open = ::fcntl(fd, F_GETFD) >= 0;
    if (!open) return tl::unexpected(text + ", but descriptor " + std::to_string(fd) + " is not open");
    Log::error("descriptor %d is no listening socket", fd);
  }
  return {};
}

/// Ours, but for what concerned only this process.
std::vector<std::string> environment_for_successor(const std::vector<http::ListenerSet::Open>& sockets, int ready) {
  std::vector<std::string> made;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("WATCHDOG_PID=")) made.emplace_back(text);
  }
  std::string lines = std::string(kSockets) + "=";
  for (const auto& [fd, name] : sockets) lines += std::to_string(fd) + " " + name + "\n";
  made.push_back(std::move(lines));
  made.push_back(std::string(kReady) + "=" + std::to_string(ready));
  return made;
}

bool is_this_program(const std::string& path) noexcept {
  struct stat named {};
  struct stat running {};
  return ::stat(path.c_str(), &named) == 0 && ::stat("/proc/self/exe", &running) == 0 &&
         named.st_dev == running.st_dev && named.st_ino == running.st_ino;
}

/// What the program was started by, as an absolute path, with its links as they are. Empty if that leads elsewhere: who
/// starts a program may say anything.
std::string name_given(const std::string& name) {
  std::vector<std::string> folders;
  char here[PATH_MAX] = "";
  if (name.starts_with('/')) {
    folders.emplace_back();
  } else if (name.find('/') != std::string::npos) {
    const char* told = ::getenv("PWD");  // with its links, if it is where we are
    if (told != nullptr && told[0] == '/') folders.push_back(std::string(told) + "/");
    if (::getcwd(here, sizeof here) != nullptr) folders.push_back(std::string(here) + "/");
  } else {
    const char* path = ::getenv("PATH");
    std::istringstream list(path != nullptr ? path : "");
    for (std::string folder; std::getline(list, folder, ':');) {
      if (folder.starts_with('/')) folders.push_back(folder + "/");
    }
  }
  for (const std::string& folder : folders) {
    if (is_this_program(folder + name)) return folder + name;
  }
  return "";
}

}  // namespace

tl::expected<http::HandedSockets, std::string> inherited_sockets() {
  http::HandedSockets sockets;
  take_from_predecessor(sockets);
  const auto taken = take_from_systemd(sockets);
  if (!taken) return tl::unexpected(taken.error());
  if (const auto fd = number_in_environment(kReady)) {
    predecessor_fd = static_cast<int>(*fd);
    (void)::fcntl(predecessor_fd, F_SETFD, FD_CLOEXEC);
    ::unsetenv(kReady);  // our own successor gets another
  }
  return sockets;
}

void tell_predecessor() noexcept {
  if (predecessor_fd < 0) return;
  (void)!::write(predecessor_fd, "1", 1);
  ::close(std::exchange(predecessor_fd, -1));
}

ProgramStart ProgramStart::of(int argc, char** argv) {
  ProgramStart program;
  program.file = name_given(argv[0]);
  char path[PATH_MAX] = "";
  const ssize_t size = program.file.empty() ? ::readlink("/proc/self/exe", path, sizeof path) : -1;
  if (size > 0) program.file.assign(path, static_cast<std::size_t>(size));
  if (program.file.empty()) program.file = argv[0];
  program.arguments.assign(argv, argv + argc);
  return program;
}

Successor::~Successor() {
  if (ready_fd_ >= 0) ::close(ready_fd_);
}

Result<void> Successor::start(const ProgramStart& program, const std::vector<http::ListenerSet::Open>& sockets) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return fail(errno);
  ready_fd_ = pipe[0];
  fs::SpawnOptions options;
  options.program = program.file;
  options.arguments = program.arguments;
  options.environment = environment_for_successor(sockets, pipe[1]);
  options.inherited.emplace({pipe[1]});
  for (const http::ListenerSet::Open& open : sockets) options.inherited->push_back(open.fd);
  // What would end a process that is not yet ready for it waits until it is, see main.
  options.blocked = {SIGHUP, SIGUSR1, SIGUSR2};
  const Result<fs::Child> child = fs::spawn_blocking(options);
  ::close(pipe[1]);
  if (!child) return fail(child.error());
  pid_ = child->pid;
  ::close(child->pidfd);  // we wait for it by its number, which stays its own until then
  return {};
}

Successor::Outcome Successor::wait_until_it_serves(Instant deadline, const std::atomic<bool>& unwanted) noexcept {
  Outcome outcome = Outcome::failed;
  while (true) {
    pollfd ready{ready_fd_, POLLIN, 0};
    char byte = 0;
    const int polled = ::poll(&ready, 1, kLookInterval);
    if (polled == 1 && ::read(ready_fd_, &byte, 1) == 1) return Outcome::serves;
    if (polled == 1) break;
    if (unwanted.load()) {
      outcome = Outcome::unwanted;
      break;
    }
    if (monotonic_now() >= deadline) {
      outcome = Outcome::late;
      break;
    }
  }
  ::kill(pid_, SIGKILL);  // it has ended, or must not outlive us now
  ::waitpid(pid_, nullptr, 0);
  return outcome;
}

}  // namespace evlua::tools
