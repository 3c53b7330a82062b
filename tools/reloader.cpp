#include "tools/reloader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/blocking.h"
#include "core/log.h"
#include "core/worker.h"
#include "lua/bytecode.h"
#include "tools/file_state.h"

namespace evlua::tools {

namespace {

constexpr Duration kLookInterval = 25 * kMillisecond;

FileStates look_at_files() {
  FileStates states;
  for (std::string& path : lua::loaded_files()) {
    std::string state = file_state(path);
    states.emplace(std::move(path), std::move(state));
  }
  return states;
}

Task<void> switch_handler(AppHandler& handler, http::Handler& to) {
  handler.switch_to(to);
  co_return;
}

}  // namespace

Task<tl::expected<void, std::string>> Reloader::start(void (*stop_action)(lua::Vm&, int signal)) {
  stop_action_ = stop_action;
  Generation::Loaded loaded = co_await Generation::load(scheduler_, app_, true);
  if (!loaded) co_return tl::unexpected(std::move(loaded.error()));
  present_ = std::move(*loaded);
  auto looking = blocking(scheduler_.pool(), look_at_files);
  std::optional<FileStates> now = co_await looking;
  if (now) files_ = std::move(*now);
  for (unsigned worker = 0; worker < handlers_.size(); ++worker) handlers_[worker].switch_to(present_->handler(worker));
  co_return tl::expected<void, std::string>();
}

Task<void> Reloader::run() {
  while (true) {
    const bool wanted = co_await wait_for_reason();
    if (!wanted) co_return;
    wanted_.reset();
    co_await reload();
  }
}

/// False: it was cancelled.
Task<bool> Reloader::wait_for_reason() {
  FileStates before;
  while (true) {
    const Instant look = options_.watch ? deadline_after(Worker::current().now(), kLookInterval) : kNever;
    const Result<void> asked = co_await wanted_.wait(look);
    if (asked) co_return true;
    if (asked.error().is(ECANCELED)) co_return false;
    auto looking = blocking(scheduler_.pool(), look_at_files);
    std::optional<FileStates> now = co_await looking;
    if (!now) co_return false;
    files_.insert(now->begin(), now->end());  // those that the app has loaded since
    // A file that is being written is left alone until it stays as it is.
    if (*now == before && *now != files_) co_return true;
    before = std::move(*now);
  }
}

Task<void> Reloader::reload() {
  // What is loading cannot be left half-way.
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  const Instant began = monotonic_now();
  // Before and not after loading: what is written meanwhile is a reason to load again.
  auto looking = blocking(scheduler_.pool(), look_at_files);
  std::optional<FileStates> now = co_await looking;
  files_ = std::move(*now);
  Generation::Loaded loaded = co_await Generation::load(scheduler_, app_, false);
  if (!loaded) {
    counts().failed.add(1);
    Log::error("the app stays as it was: %s", loaded.error().c_str());
    co_return;
  }
  std::unique_ptr<Generation> old = std::exchange(present_, std::move(*loaded));
  co_await take_over();
  signals_.attach(present_->first_vm(), stop_action_);
  counts().done.add(1);
  Log::info("app reloaded in %.1f ms", static_cast<double>(monotonic_now() - began) / 1e6);
  ending_.spawn(end_old(std::move(old)));
}

Reloader::Counts& Reloader::counts() noexcept {
  static auto& all = *new Counts;
  return all;
}

/// When it returns no request goes to the old generation any more.
Task<void> Reloader::take_over() {
  TaskScope switching(scheduler_);
  for (unsigned worker = 0; worker < handlers_.size(); ++worker) {
    switching.spawn_on(scheduler_.worker(worker).pinned(),
                       switch_handler(handlers_[worker], present_->handler(worker)));
  }
  co_await switching.join();
}

Task<void> Reloader::end_old(std::unique_ptr<Generation> old) {
  const Instant deadline = deadline_after(Worker::current().now(), options_.grace);
  co_await old->end(deadline, false);
}

Task<void> Reloader::end() {
  co_await ending_.join();
  co_await present_->end(kNever, true);
}

}  // namespace evlua::tools
