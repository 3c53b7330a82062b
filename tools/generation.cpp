#include "tools/generation.h"

#include <utility>

#include "core/event.h"
#include "core/log.h"
#include "core/worker.h"
#include "lua/fiber.h"
#include "lua/task_list.h"
#include "tools/runtime.h"

namespace evlua::tools {

using lua::HttpApp;
using lua::Vm;

namespace {

constexpr Duration kShort = 100 * kMillisecond;  // for tasks of an app that did not load, and to get at others

/// What is done to every live task of a Vm, on its strand.
struct ForEachTask : Runnable {
  ForEachTask(Vm& of, void (*what)(Vm&)) : vm(of), act(what) {
    run = [](Runnable& self) noexcept {
      auto& here = static_cast<ForEachTask&>(self);
      here.act(here.vm);
      here.done.set();
    };
  }
  Vm& vm;
  void (*act)(Vm&);
  Event done;
};

void cancel_all(Vm& vm) {
  vm.for_each_live([](lua::Fiber& fiber) { fiber.cancel(OpStop::cancelled); });
}

void end_all(Vm& vm) {
  if (vm.live_fibers() == 0) return;
  Log::error("tasks that do not end are ended:\n%s", lua::describe_tasks(vm).c_str());
  vm.for_each_live([](lua::Fiber& fiber) { fiber.doom("it takes too long"); });
}

}  // namespace

Task<Generation::Loaded> Generation::load(Scheduler& scheduler, const Options& options, bool first) {
  std::unique_ptr<Generation> made(new Generation);
  std::string failure;
  for (unsigned worker = 0; worker < scheduler.worker_count() && failure.empty(); ++worker) {
    std::vector<HttpApp*> apps;
    for (unsigned index = 0; index < options.vms && failure.empty(); ++index) {
      Instance instance;
      instance.vm = Vm::create(scheduler, options.vm);
      if (instance.vm == nullptr) {
        failure = "not enough memory for a Lua state";
        break;
      }
      instance.vm->on_exit = [](int code) { leave(code); };
      instance.app = std::make_unique<HttpApp>(*instance.vm, options.app_options);
      HttpApp& app = *instance.app;
      apps.push_back(&app);
      const bool leads = made->instances_.empty();
      made->instances_.push_back(std::move(instance));
      std::string path = options.app;
      const auto once = !leads ? HttpApp::Once::ignore : first ? HttpApp::Once::start_and_stop : HttpApp::Once::stop;
      auto loaded = co_await app.load(std::move(path), once);
      if (!loaded) failure = std::move(loaded.error());
    }
    made->pools_.push_back(std::make_unique<lua::HttpPool>(std::move(apps), options.admission));
  }
  if (failure.empty()) co_return Loaded(std::move(made));
  for (const Instance& instance : made->instances_) {
    const Instant deadline = deadline_after(Worker::current().backend().now(), kShort);
    co_await cancel_tasks(*instance.vm, deadline);
  }
  co_return Loaded(tl::unexpected(std::move(failure)));
}

/// Tasks that handlers left running end with the server. False: not by themselves.
Task<bool> Generation::cancel_tasks(Vm& vm, Instant deadline) {
  TaskContext& context = co_await current_context();
  context.cancel = nullptr;
  ForEachTask asking(vm, cancel_all);
  vm.strand().enqueue(asking);
  Result<void> ended = co_await asking.done.wait(deadline);
  if (ended) ended = co_await vm.idle().wait(deadline);
  if (ended) co_return true;
  ForEachTask ending(vm, end_all);
  vm.strand().enqueue(ending);
  const Instant moment = deadline_after(Worker::current().backend().now(), kShort);
  (void)co_await ending.done.wait(moment);
  vm.condemn("it takes too long");  // for what keeps the strand busy, or begins now
  (void)co_await asking.done.wait();
  (void)co_await ending.done.wait();
  (void)co_await vm.idle().wait();
  co_return false;
}

Task<bool> Generation::end(Instant drained_by, Duration limit, bool last) {
  for (const Instance& instance : instances_) co_await instance.app->drain(drained_by);
  const Instant deadline = deadline_after(Worker::current().backend().now(), limit);
  bool in_time = true;
  // The first one last: its stop_once comes after every stop.
  for (auto instance = instances_.rbegin(); instance != instances_.rend(); ++instance) {
    const bool stopped = co_await instance->app->stop(last, deadline);
    const bool ended = co_await cancel_tasks(*instance->vm, deadline);
    in_time = in_time && stopped && ended;
  }
  co_return in_time;
}

}  // namespace evlua::tools
