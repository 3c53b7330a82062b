// Files of a folder as an answer to GET and HEAD, before the app is asked: what is not there is the app's.
//
// A path is decoded once, and has to be plain: no "..", no NUL, no name that begins with a dot (but ".well-known"). The
// kernel is told not to leave the folder (openat2(2), RESOLVE_BENEATH), so links that lead out of it are not there.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/scheduler.h"
#include "net/http/exchange.h"
#include "net/http/file_body.h"

namespace evlua::http {

struct StaticFolder {
  std::string prefix;  ///< "/" or "/assets": where in the paths of requests the folder is
  std::string directory;
  std::string cache_control;  ///< may be empty
  bool precompressed = true;  ///< "x.js.br", "x.js.zst", "x.js.gz" stand in for "x.js"
};

/// The folders, opened. Shared by all workers.
class StaticFolders {
 public:
  StaticFolders() = default;
  ~StaticFolders();
  StaticFolders(const StaticFolders&) = delete;
  StaticFolders& operator=(const StaticFolders&) = delete;

  /// ENOENT, ENOTDIR, ...
  Result<void> add(StaticFolder folder);

  struct Found {
    const StaticFolder* folder = nullptr;
    int fd = -1;
    std::string path;  ///< decoded, within the folder; "." for the folder itself, without a slash behind it
  };
  /// The folder with the longest prefix of `path`, which is as the client sent it. False: none, or no plain path.
  bool find(std::string_view path, Found& found) const;
  bool empty() const noexcept { return folders_.empty(); }

 private:
  struct Open {
    StaticFolder folder;
    int fd = -1;
  };
  std::vector<Open> folders_;
};

/// One for each worker.
class StaticHandler final : public Handler {
 public:
  /// `next` answers what is no file of ours; null: 404.
  StaticHandler(const StaticFolders& folders, Handler* next, Scheduler& scheduler) noexcept
      : folders_(folders), next_(next), scheduler_(scheduler) {}

  bool handle(Exchange& exchange) noexcept override;
  void abandon(Exchange& exchange) noexcept override;
  void expire(Exchange& exchange) noexcept override;
  void examine(Exchange& exchange) noexcept override;

 private:
  struct Work;

  bool pass_on(Exchange& exchange) noexcept;
  Task<void> serve_later(Exchange& exchange, StaticFolders::Found found, std::unique_ptr<FileBody> body);

  const StaticFolders& folders_;
  Handler* const next_;
  Scheduler& scheduler_;
};

}  // namespace evlua::http
