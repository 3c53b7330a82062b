#include "net/http/access_log.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/blocking.h"
#include "core/log.h"
#include "core/worker.h"

namespace evlua::http {

namespace {

constexpr Duration kGatherTime = 50 * kMillisecond;
constexpr Duration kTellInterval = 10 * kSecond;
// For a reader, to take something.
constexpr Duration kPatience = 100 * kMillisecond;
constexpr Duration kLastPatience = kSecond;

/// Cuts what comes behind the last line end in the first `most` bytes; behind those, if there is none: a longer line.
void keep_whole_lines(std::array<std::string_view, 2>& pieces, std::size_t most) noexcept {
  if (pieces[0].size() + pieces[1].size() <= most) return;
  const std::size_t first = std::min(pieces[0].size(), most);
  const std::size_t second = most - first;
  pieces = {pieces[0].substr(0, first), pieces[1].substr(0, second)};
  if (const std::size_t end = pieces[1].rfind('\n'); end != std::string_view::npos) {
    pieces[1] = pieces[1].substr(0, end + 1);
  } else if (const std::size_t before = pieces[0].rfind('\n'); before != std::string_view::npos) {
    pieces = {pieces[0].substr(0, before + 1), {}};
  }
}

}  // namespace

/// One worker's ring.
class AccessLog::Lane final : public RequestLog {
 public:
  Lane(AccessLog& log, const Options& options) : log_(log), format_(options.format), ring_(options.ring_bytes) {}

  void ended(Exchange& exchange, const ExchangeEnd& end) noexcept override {
    if (!ring_.push(format_.make(exchange, end))) {
      dropped_.store(dropped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return;
    }
    lines_.store(lines_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    // Pairs with the store in run: either it sees the line, or we see that it sleeps.
    if (log_.asleep_.load()) {
      if (log_.asleep_.exchange(false)) log_.some_.set();
    } else if (ring_.is_half_full() && !log_.pressing_.load(std::memory_order_relaxed)) {
      if (!log_.pressing_.exchange(true)) log_.pressed_.set();
    }
  }

  ByteRing& ring() noexcept { return ring_; }
  std::uint64_t lines() const noexcept { return lines_.load(std::memory_order_relaxed); }
  std::uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed) + unwritten.load(); }

  std::atomic<std::uint64_t> unwritten{0};  // lines that the file did not take [writer]

 private:
  AccessLog& log_;
  AccessLines format_;
  ByteRing ring_;
  std::atomic<std::uint64_t> lines_{0};
  std::atomic<std::uint64_t> dropped_{0};
};

AccessLog::AccessLog() = default;
AccessLog::~AccessLog() = default;

Result<std::unique_ptr<AccessLog>> AccessLog::open(const Options& options, unsigned workers) {
  std::unique_ptr<AccessLog> log(new AccessLog);
  const Result<void> opened = log->file_.open(options.path, STDOUT_FILENO);
  if (!opened) return fail(opened.error());
  for (unsigned i = 0; i < workers; ++i) log->lanes_.push_back(std::make_unique<Lane>(*log, options));
  return log;
}

RequestLog& AccessLog::of_worker(unsigned index) noexcept { return *lanes_[index]; }

std::uint64_t AccessLog::dropped() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->dropped();
  return sum;
}

std::uint64_t AccessLog::lines() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->lines();
  return sum;
}

bool AccessLog::all_empty() const noexcept {
  return std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->ring().empty(); });
}

Task<void> AccessLog::run(BlockingPool& pool) {
  bool running = true;
  while (running) {
    some_.reset();
    asleep_.store(true);
    if (all_empty()) {
      const Result<void> woken = co_await some_.wait();
      running = woken.has_value();
    }
    asleep_.store(false);
    // More will come: one write for all of it.
    if (running) {
      const Instant until = deadline_after(Worker::current().now(), kGatherTime);
      const Result<void> waited = co_await pressed_.wait(until);
      running = waited || waited.error().is(ETIMEDOUT);
    }
    pressed_.reset();
    pressing_.store(false);
    if (!running) {
      TaskContext& context = co_await current_context();
      context.cancel = nullptr;  // the rest is written all the same
    }
    auto writing = blocking(pool, [this, running] {
      write_out(!running);
      return true;
    });
    (void)co_await writing;
    tell_losses(!running);
  }
}

/// The rest stays in the rings when the reader is slow, unless it is the `last` time. Where it may have ended within a
/// line the next time begins, since another lane's lines would come into the middle of that one.
void AccessLog::write_out(bool last) noexcept {
  bool goes_on = true;
  const std::size_t first = first_;
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    const std::size_t index = (first + i) % lanes_.size();
    Lane& lane = *lanes_[index];
    if (goes_on) {
      goes_on = write_lane(lane, last);
      first_ = index;
    }
    if (!goes_on && last) drop_rest(lane);
  }
}

/// What is in the ring now; lines that come meanwhile are for the next time. False: nobody reads.
bool AccessLog::write_lane(Lane& lane, bool last) noexcept {
  end_cut_line();
  std::array<std::string_view, 2> pieces = lane.ring().peek();
  std::size_t left = pieces[0].size() + pieces[1].size();
  while (left > 0) {
    // An old and a new process, or other programs, may write to the same pipe.
    std::array<std::string_view, 2> some = pieces;
    keep_whole_lines(some, file_.atomic_bytes());
    std::array<iovec, 2> parts{};
    for (std::size_t i = 0; i < 2; ++i) parts[i] = {const_cast<char*>(some[i].data()), some[i].size()};
    const ssize_t written = file_.write(parts.data(), 2);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      if (file_.wait_for_room(last ? kLastPatience : kPatience)) continue;
      write_error_ = EAGAIN;
      return false;
    }
    if (written <= 0) break;
    auto done = static_cast<std::size_t>(written);
    const std::size_t first = pieces[0].size();
    in_line_ = (done > first ? pieces[1][done - first - 1] : pieces[0][done - 1]) != '\n';
    left -= done;
    lane.ring().consume(done);
    for (std::string_view& piece : pieces) {
      const std::size_t part = std::min(done, piece.size());
      piece.remove_prefix(part);
      done -= part;
    }
  }
  if (left == 0) return true;
  write_error_ = errno;
  cut_ = in_line_;
  drop_rest(lane);
  return true;
}

/// What an error has cut does not run into the next line.
void AccessLog::end_cut_line() noexcept {
  const iovec end{const_cast<char*>("\n"), 1};
  if (cut_ && file_.write(&end, 1) == 1) cut_ = in_line_ = false;
}

void AccessLog::drop_rest(Lane& lane) noexcept {
  std::uint64_t lost = 0;
  std::size_t size = 0;
  for (const std::string_view piece : lane.ring().peek()) {
    lost += static_cast<std::uint64_t>(std::count(piece.begin(), piece.end(), '\n'));
    size += piece.size();
  }
  lane.unwritten.fetch_add(lost);
  lane.ring().consume(size);
}

void AccessLog::tell_losses(bool at_once) noexcept {
  const std::uint64_t lost = dropped();
  const Instant now = monotonic_now();
  if (lost == told_ || (!at_once && told_at_ != 0 && now < told_at_ + kTellInterval)) return;
  const int error = std::exchange(write_error_, 0);
  Log::warn("access log: %llu lines were dropped: %s", static_cast<unsigned long long>(lost - told_),
            error == EAGAIN ? "nobody reads them"
            : error != 0    ? std::strerror(error)
                            : "they come faster than they are written");
  told_ = lost;
  told_at_ = now;
}

}  // namespace evlua::http
