// Goal: the backend is the one that was asked for, or the best there is; and who is refused learns why and what helps.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "backends/select.h"
#include "backends/uring/features.h"
#include "core/blocking_pool.h"
#include "tests/support/doctest.h"

namespace evlua::test {
namespace {

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// Sets EVLUA_BACKEND for a while; null removes it.
class Environment {
 public:
  explicit Environment(const char* value) {
    if (const char* before = std::getenv(kName)) before_ = before;
    had_one_ = std::getenv(kName) != nullptr;
    set(value);
  }
  ~Environment() { set(had_one_ ? before_.c_str() : nullptr); }

 private:
  static constexpr const char* kName = "EVLUA_BACKEND";
  static void set(const char* value) {
    if (value != nullptr) {
      ::setenv(kName, value, 1);
    } else {
      ::unsetenv(kName);
    }
  }
  std::string before_;
  bool had_one_;
};

/// From here on io_uring_setup fails with `errno_value`, for this process and for good, as a container's filter has it.
bool forbid_io_uring(std::uint32_t errno_value) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errno_value),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{sizeof(program) / sizeof(program[0]), program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}

/// What `body` returns in a child process under that filter.
template <class Body>
std::string in_sandbox(std::uint32_t errno_value, Body body) {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const std::string text = forbid_io_uring(errno_value) ? body() : std::string("no filter");
    const bool written = ::write(pipe[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::_exit(written ? 0 : 1);
  }
  ::close(pipe[1]);
  std::string text;
  char room[512];
  for (ssize_t got; (got = ::read(pipe[0], room, sizeof(room))) > 0;) text.append(room, static_cast<std::size_t>(got));
  ::close(pipe[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  return text;
}

struct NoHost final : BackendHost {
  void post(Runnable&) noexcept override {}
  BlockingPool& pool() noexcept override { return blocking; }
  BlockingPool blocking;
};

TEST_CASE("a backend is had by its name, and carries it") {
  const Environment none(nullptr);
  for (const char* name : {"io_uring", "libev"}) {
    if (std::string(name) == "io_uring" && !uring_refusal().empty()) continue;
    const auto choice = select_backend(name);
    REQUIRE(choice.has_value());
    CHECK(choice->name == name);
    CHECK(choice->refusal.empty());
    const std::unique_ptr<Backend> backend = choice->factory();
    CHECK(std::string(backend->capabilities().name) == name);
    NoHost host;
    CHECK(backend->start(host));
  }
}

TEST_CASE("an unknown name is an error that lists the known ones and says where it came from") {
  const Environment none(nullptr);
  const auto choice = select_backend("epoll");
  REQUIRE_FALSE(choice.has_value());
  for (const char* part : {"epoll", "auto", "io_uring", "libev"}) CHECK(contains(choice.error(), part));
  CHECK_FALSE(contains(choice.error(), "EVLUA_BACKEND"));
  const Environment wrong("kqueue");
  const auto from_environment = select_backend("");
  REQUIRE_FALSE(from_environment.has_value());
  CHECK(contains(from_environment.error(), "kqueue"));
  CHECK(contains(from_environment.error(), "EVLUA_BACKEND"));
}

TEST_CASE("the environment decides when nothing was asked for, and is outdone by a request") {
  const Environment libev("libev");
  const auto from_environment = select_backend("");
  REQUIRE(from_environment.has_value());
  CHECK(from_environment->name == "libev");
  if (!uring_refusal().empty()) return;
  CHECK(select_backend("io_uring")->name == "io_uring");
  CHECK(select_backend("auto")->name == "io_uring");
  const Environment empty("");
  CHECK(select_backend("")->name == "io_uring");
}

TEST_CASE("under a container's seccomp filter, auto falls back to libev and names the cause and the cure") {
  for (const char* request : {"auto", ""}) {
    const std::string told = in_sandbox(EPERM, [request] {
      ::unsetenv("EVLUA_BACKEND");
      const auto choice = select_backend(request);
      if (!choice.has_value()) return "error: " + choice.error();
      NoHost host;
      const std::unique_ptr<Backend> backend = choice->factory();
      return choice->name + (backend->start(host) ? " starts: " : " does not start: ") + choice->refusal;
    });
    CHECK_MESSAGE(contains(told, "libev starts: "), told);
    for (const char* part : {"seccomp", "Docker", "--security-opt", "io_uring_setup"}) CHECK(contains(told, part));
  }
}

TEST_CASE("under a container's seccomp filter, io_uring by name is an error with the cause and the cure") {
  const std::string told = in_sandbox(EPERM, [] {
    const auto choice = select_backend("io_uring");
    return choice.has_value() ? "chosen: " + choice->name : "error: " + choice.error();
  });
  CHECK_MESSAGE(contains(told, "error: io_uring cannot be used: "), told);
  for (const char* part : {"seccomp", "--security-opt", "libev"}) CHECK(contains(told, part));
}

TEST_CASE("a filter that pretends the call does not exist is not taken for an old kernel") {
  const std::string told = in_sandbox(ENOSYS, [] { return uring_refusal(); });
  CHECK_MESSAGE(contains(told, "seccomp"), told);
  CHECK_FALSE(contains(told, "too old"));
}

TEST_CASE("each refusal names its cause and its cure") {
  const UringSurroundings plain{.disabled_sysctl = 0, .seccomp = false, .kernel = "5.10.0"};
  UringSurroundings around = plain;
  CHECK(contains(explain_refusal(ENOSYS, plain), "kernel 5.10.0"));
  CHECK(contains(explain_refusal(ENOSYS, plain), "cure: Linux 6.1"));
  CHECK(contains(explain_refusal(EINVAL, plain), "too old"));
  CHECK(contains(explain_refusal(ENOMEM, plain), "ulimit -l"));
  CHECK(contains(explain_refusal(EMFILE, plain), "ulimit -n"));
  CHECK(contains(explain_refusal(EPERM, plain), "security"));
  CHECK(contains(explain_refusal(EIO, plain), "errno 5"));
  around.seccomp = true;
  CHECK(contains(explain_refusal(EPERM, around), "seccomp"));
  around.disabled_sysctl = 1;  // the sysctl is the nearer cause
  CHECK(contains(explain_refusal(EPERM, around), "kernel.io_uring_group"));
  CHECK(contains(explain_refusal(EPERM, around), "sysctl kernel.io_uring_disabled=0"));
  around.disabled_sysctl = 2;
  CHECK(contains(explain_refusal(EPERM, around), "every process"));
  CHECK(contains(explain_refusal(EPERM, around), "sysctl kernel.io_uring_disabled=0"));
}

TEST_CASE("asking whether io_uring is refused leaves nothing behind") {
  const std::string first = uring_refusal();
  const int before = ::dup(0);
  ::close(before);
  for (int i = 0; i < 20; ++i) CHECK(uring_refusal() == first);
  const int after = ::dup(0);
  ::close(after);
  CHECK(before == after);
}

}  // namespace
}  // namespace evlua::test
