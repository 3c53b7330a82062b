#include "tools/reloader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/blocking.h"
#include "core/decimal.h"
#include "core/log.h"
#include "core/worker.h"
#include "lua/bytecode.h"
#include "tools/file_state.h"

namespace evlua::tools {

namespace {

constexpr Duration kLookInterval = 25 * kMillisecond;
constexpr Duration kLastMoment = kSecond;

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

/// A generation on its way. It may go on for a while when it has been given up.
struct Reloader::Loading {
  explicit Loading(Scheduler& scheduler) : scope(scheduler) {}

  TaskScope scope;
  Instant began = 0;
  Instant deadline = kNever;
  enum class State : std::uint8_t { goes_on, ended, given_up };
  std::atomic<State> state{State::goes_on};  // whoever comes second disposes of what was loaded
  std::optional<Generation::Loaded> result;

  static Task<void> run(Scheduler& scheduler, const Generation::Options& app, Loading& self) {
    Generation::Loaded loaded = co_await Generation::load(scheduler, app, false);
    self.result.emplace(std::move(loaded));
  }
};

Task<void> Reloader::run() {
  while (true) {
    const News news = co_await wait_for_news();
    if (news == News::loaded) {
      co_await put_into_use();
    } else if (news == News::late) {
      counts().failed.add(1);
      give_up("it takes too long (--start-timeout)");
    } else if (news == News::cancelled) {
      give_up("the server stops");
      co_return;
    } else {
      give_up("it is to be loaded again");
      co_await begin_loading();
    }
  }
}

Task<Reloader::News> Reloader::wait_for_news() {
  FileStates before;
  while (true) {
    if (asked_.exchange(false)) co_return News::reload_wanted;
    if (loading_ != nullptr && loading_->state.load() == Loading::State::ended) co_return News::loaded;
    const Instant now = Worker::current().backend().now();
    const Instant late = loading_ != nullptr ? loading_->deadline : kNever;
    if (now >= late) co_return News::late;
    const Instant look = options_.watch ? deadline_after(now, kLookInterval) : kNever;
    const Result<void> woken = co_await news_.wait(std::min(look, late));
    news_.reset();
    if (woken) continue;
    if (woken.error().is(ECANCELED)) co_return News::cancelled;
    if (!options_.watch) continue;
    auto looking = blocking(scheduler_.pool(), look_at_files);
    std::optional<FileStates> states = co_await looking;
    if (!states) co_return News::cancelled;
    files_.insert(states->begin(), states->end());  // those that the app has loaded since
    // A file that is being written is left alone until it stays as it is.
    if (*states == before && *states != files_) co_return News::reload_wanted;
    before = std::move(*states);
  }
}

Task<void> Reloader::begin_loading() {
  auto loading = std::make_shared<Loading>(scheduler_);
  loading->began = Worker::current().backend().now();
  loading->deadline = deadline_after(loading->began, options_.start_limit);
  // Before and not after loading: what is written meanwhile is a reason to load again.
  auto looking = blocking(scheduler_.pool(), look_at_files);
  std::optional<FileStates> now = co_await looking;
  if (!now) co_return;  // cancelled
  files_ = std::move(*now);
  loading_ = loading;
  ending_.spawn(load(std::move(loading)));
}

Task<void> Reloader::load(std::shared_ptr<Loading> loading) {
  loading->scope.spawn(Loading::run(scheduler_, app_, *loading));
  co_await loading->scope.join();
  const bool wanted = loading->state.exchange(Loading::State::ended) == Loading::State::goes_on;
  if (wanted) news_.set();
  if (!wanted && *loading->result) co_await end_old(std::move(**loading->result));
}

/// Nothing happens if nothing loads.
void Reloader::give_up(const char* why) {
  if (loading_ == nullptr) return;
  Log::error("loading the app is given up, it stays as it was: %s", why);
  const std::shared_ptr<Loading> loading = std::exchange(loading_, nullptr);
  const bool ended = loading->state.exchange(Loading::State::given_up) == Loading::State::ended;
  loading->scope.cancel();
  if (ended && *loading->result) ending_.spawn(end_old(std::move(**loading->result)));
}

Task<void> Reloader::put_into_use() {
  const std::shared_ptr<Loading> loading = std::exchange(loading_, nullptr);
  Generation::Loaded& loaded = *loading->result;
  if (!loaded) {
    counts().failed.add(1);
    Log::error("the app stays as it was: %s", loaded.error().c_str());
    co_return;
  }
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  std::unique_ptr<Generation> old = std::exchange(present_, std::move(*loaded));
  co_await take_over();
  signals_.attach(present_->first_vm(), stop_action_);
  counts().done.add(1);
  Log::info("app reloaded in %s ms",
            fixed_decimal(static_cast<double>(monotonic_now() - loading->began) / 1e6, 1).c_str());
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
  co_await old->end(deadline, options_.stop_limit, false);
}

Task<bool> Reloader::end(Instant deadline) {
  co_await ending_.join();
  const Duration left = deadline - Worker::current().backend().now();
  const Duration limit = std::max(left, std::min(options_.stop_limit, kLastMoment));
  const bool in_time = co_await present_->end(kNever, limit, true);
  co_return in_time;
}

}  // namespace evlua::tools
