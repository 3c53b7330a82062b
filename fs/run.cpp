#include "fs/run.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "core/event.h"
#include "core/io_await.h"
#include "core/scope.h"

namespace evlua::fs {

namespace {

constexpr std::uint32_t kPiece = 65536;  // what a pipe holds
/// What a program that had to be ended has left in its pipes is there already.
constexpr Duration kLastWords = 50 * kMillisecond;

/// What runs beside the program: whoever feeds it and whoever captures. All on one executor.
struct Run {
  Run(Executor& home, RunOptions& given)
      : options(given), has_group(given.launch.spawn.new_group || given.launch.spawn.new_session), scope(home) {}

  void begin(Task<void> work) {
    ++busy;
    scope.spawn(std::move(work));
  }
  void ended() noexcept {
    if (--busy == 0) all_ended.set();
  }

  RunOptions& options;
  const bool has_group;
  std::unique_ptr<RunResult> owned = std::make_unique<RunResult>();
  RunResult& result = *owned;
  TaskScope scope;
  Event all_ended;
  unsigned busy = 0;
};

/// Writes the input and closes. A program need not read it.
Task<void> feed(Run& run, File& pipe) {
  const Result<void> written = co_await pipe.write_at(run.options.input, -1);
  (void)written;
  const File closing(std::move(pipe));  // also in a cancelled task, which could not wait for it
  run.ended();
}

/// A program that writes too much is killed: it would wait for ever otherwise, or fill the memory.
Task<void> capture(Run& run, File& pipe, std::string& into) {
  const auto piece = std::make_unique<char[]>(kPiece);
  while (true) {
    const Result<std::size_t> got = co_await pipe.read_at(piece.get(), kPiece, -1);
    if (!got) {
      run.result.incomplete = true;
      break;
    }
    if (*got == 0) break;
    const std::size_t room = run.options.limit - into.size();
    into.append(piece.get(), std::min(*got, room));
    if (*got > room) {
      run.result.outcome = RunResult::Outcome::too_much;
      (void)run.result.launched.process.signal(SIGKILL);
      break;
    }
  }
  const File closing(std::move(pipe));  // also in a cancelled task, which could not wait for it
  run.ended();
}

void begin_all(Run& run) {
  std::array<File, 3>& pipes = run.result.launched.pipes;
  if (pipes[0].is_open()) run.begin(feed(run, pipes[0]));
  if (pipes[1].is_open()) run.begin(capture(run, pipes[1], run.result.output));
  if (pipes[2].is_open()) run.begin(capture(run, pipes[2], run.result.errors));
}

/// Waits for the end of the program, or brings it about.
Task<Result<void>> end_of(Run& run) {
  Process& process = run.result.launched.process;
  const Result<void> waited = co_await process.wait(run.options.deadline);
  if (waited) co_return Result<void>();
  const bool timed_out = waited.error().is(ETIMEDOUT);
  const Process::Stop how{timed_out ? run.options.grace : 0, run.has_group};
  co_await process.stop(how);
  if (!timed_out) co_return waited;
  if (run.result.outcome == RunResult::Outcome::ended) run.result.outcome = RunResult::Outcome::timed_out;
  co_return Result<void>();
}

}  // namespace

Task<Result<std::unique_ptr<RunResult>>> run(RunOptions options) {
  TaskContext& context = co_await current_context();
  Run work(*context.home, options);
  work.result.launched = co_await launch(std::move(options.launch));
  if (work.result.launched.error == ECANCELED) co_return fail(ECANCELED);
  if (work.result.launched.error != 0) {
    work.result.outcome = RunResult::Outcome::not_started;
    co_return std::move(work.owned);
  }
  begin_all(work);
  const Result<void> ended = co_await end_of(work);
  if (ended && work.busy > 0) {
    const bool itself = work.result.outcome == RunResult::Outcome::ended;
    const Duration patience = itself ? options.drain : std::min(options.drain, kLastWords);
    const Result<void> drained = co_await work.all_ended.wait(deadline_after(monotonic_now(), patience));
    (void)drained;
  }
  work.scope.cancel();
  co_await work.scope.join();
  if (!ended) co_return fail(ended.error());
  work.result.status = *work.result.launched.process.look();
  co_return std::move(work.owned);
}

}  // namespace evlua::fs
