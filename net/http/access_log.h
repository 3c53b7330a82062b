// The access log. A worker puts its finished lines into a ring of its own and goes on: it never waits for a file. A
// task has the blocking pool write out what has gathered, many lines at a time. What a full ring has no room for is
// dropped and counted; so is, at the end, what nobody reads for a second.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/blocking_pool.h"
#include "core/event.h"
#include "core/lockfree/byte_ring.h"
#include "core/log_file.h"
#include "core/task.h"
#include "net/http/access_lines.h"
#include "net/http/request_log.h"

namespace evlua::http {

class AccessLog {
 public:
  struct Options {
    std::string path;  ///< "-": standard output
    AccessFormat format = AccessFormat::combined;
    std::size_t ring_bytes = 1 << 20;  ///< of each worker; a power of two
  };

  /// Opens the file; it blocks.
  static Result<std::unique_ptr<AccessLog>> open(const Options& options, unsigned workers);
  ~AccessLog();

  /// Where that worker's exchanges go.
  RequestLog& of_worker(unsigned index) noexcept;

  /// Writes until it is cancelled; what had come by then is written before it returns. The log outlives it.
  Task<void> run(BlockingPool& pool);
  /// As LogFile::give_to.
  Result<void> give_to(uid_t user, gid_t group) noexcept { return file_.give_to(user, group); }
  /// After the file was renamed. It blocks. [any thread]
  Result<void> reopen() noexcept { return file_.reopen(); }

  /// Lines that were lost, to a full ring or to a file that could not be written. [any thread]
  std::uint64_t dropped() const noexcept;
  std::uint64_t lines() const noexcept;

 private:
  class Lane;

  AccessLog();
  bool all_empty() const noexcept;
  void write_out(bool last) noexcept;
  bool write_lane(Lane& lane, bool last) noexcept;
  void end_cut_line() noexcept;
  static void drop_rest(Lane& lane) noexcept;
  void tell_losses(bool at_once) noexcept;

  LogFile file_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Event some_;     // set when a line has come while the writer slept
  Event pressed_;  // set when a ring is half full
  std::atomic<bool> asleep_{false};
  std::atomic<bool> pressing_{false};
  std::uint64_t told_ = 0;  // of dropped lines
  Instant told_at_ = 0;
  int write_error_ = 0;
  std::size_t first_ = 0;  // the lane to begin with
  bool in_line_ = false;   // what was written last does not end a line
  bool cut_ = false;       // and its rest is lost
};

}  // namespace evlua::http
