// Goal: no line goes on as another one, whoever writes at the same time and however slow the reader is.
#include "core/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/doctest.h"
#include "tests/support/folder.h"

namespace evlua {
namespace {

constexpr int kThreads = 4;
constexpr int kLines = 2000;
constexpr std::size_t kLength = 9000;  // more than a pipe takes in one piece

/// What one thread has said, or the beginning of it.
bool is_of_one(std::string_view line) {
  constexpr std::string_view kHead = " error [";
  const std::size_t head = line.find(kHead);
  const std::size_t end = line.find("] ", head);
  if (head == std::string_view::npos) return line.size() < 32 || line.find(" warn [") != std::string_view::npos;
  if (end == std::string_view::npos) return true;
  const std::string_view words = line.substr(end + 2);
  return words.empty() || words.find_first_not_of(words.front()) == std::string_view::npos;
}

TEST_CASE("lines that a slow reader cuts do not run into each other") {
  const test::Folder folder;
  const std::string path = folder.path("fifo");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(Log::open(path));
  Log::set_patient(false);
  std::vector<std::thread> writers;
  for (int i = 0; i < kThreads; ++i) {
    writers.emplace_back([i] {
      const std::string text(kLength, static_cast<char>('a' + i));
      for (int line = 0; line < kLines; ++line) Log::error("%s", text.c_str());
    });
  }
  std::thread closing([&] {
    for (std::thread& writer : writers) writer.join();
    REQUIRE(Log::open("-"));
  });
  REQUIRE(::fcntl(reader, F_SETFL, 0) == 0);
  std::string got;
  std::array<char, 1500> piece{};
  for (ssize_t size = 0; (size = ::read(reader, piece.data(), piece.size())) > 0;) {
    got.append(piece.data(), static_cast<std::size_t>(size));
  }
  closing.join();
  ::close(reader);
  std::size_t lines = 0;
  for (std::size_t at = 0; at < got.size(); ++lines) {
    const std::size_t end = std::min(got.find('\n', at), got.size());
    const std::string_view line = std::string_view(got).substr(at, end - at);
    REQUIRE_MESSAGE(is_of_one(line), line);
    at = end + 1;
  }
  CHECK(lines > 0);
}

}  // namespace
}  // namespace evlua
