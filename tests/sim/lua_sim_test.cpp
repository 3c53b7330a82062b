// Goal: whatever a Lua task waits for, and whatever fails or is cancelled meanwhile, it ends, and nothing is left: no
// task, message, descriptor, lock, or place in a pool. Small programs are run again and again, with each step failing
// once that can, and cancelled at each step; then what they used must still serve.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/frame_pool.h"
#include "lua/fiber.h"
#include "lua/vm.h"
#include "tests/sim/failing_allocator.h"
#include "tests/sim/lua_programs.h"
#include "tests/sim/simulation.h"

namespace evlua::test {
namespace {

constexpr const char* kBody = "body";

struct Run {
  const char* program;
  std::uint64_t seed = 1;
  unsigned workers = 2;
  SimFaults faults = SimFaults::none();
  double cuts = 0;
  std::uint64_t fail_operation = 0;  ///< of the program's body, as the next two
  std::uint64_t fail_allocation = 0;
  std::uint64_t refuse_at = 0;
  std::uint64_t refusals = 1;
  std::size_t memory_max = 1 << 30;
  std::uint64_t cancel_at = 0;  ///< the step of the run at which all its tasks are cancelled

  bool disturbed() const {
    return fail_operation + fail_allocation + refuse_at + cancel_at != 0 ||
           faults.cancelled + faults.no_space + faults.no_descriptor + faults.reset > 0;
  }
};

struct Outcome {
  std::uint64_t digest = 0;
  std::uint64_t begun = 0;  ///< steps when the body began
  std::uint64_t ended = 0;
  std::uint64_t fallible = 0;
  std::uint64_t allocations = 0;
  std::uint64_t refusable = 0;
  std::uint64_t cuts = 0;
  long lost_calls = 0;
};

/// Calls one phase of the program, on the Vm's strand.
struct Phase : Runnable, lua::Fiber::Owner {
  Phase(lua::Vm& in, const char* of_program, const char* phase) : vm(in), program(of_program), name(phase) {
    run = [](Runnable& self) noexcept { static_cast<Phase&>(self).begin(); };
    ended = [](lua::Fiber::Owner& owner, lua::Fiber& fiber, lua::Fiber::Outcome outcome) {
      auto& self = static_cast<Phase&>(owner);
      if (outcome == lua::Fiber::Outcome::failed) self.error = fiber.failure_text();
      self.done.set();
    };
  }
  void begin() {
    lua::Fiber* fiber = vm.take_fiber();
    EVLUA_CHECK(fiber != nullptr);
    if (begins) begins();
    lua_State* L = fiber->root();
    lua_getglobal(L, "run_phase");
    lua_pushstring(L, program);
    lua_pushstring(L, name);
    fiber->start_now(2, this);
  }

  lua::Vm& vm;
  const char* program;
  const char* name;
  std::function<void()> begins;
  Event done;
  std::string error;
};

struct CancelAll : Runnable {
  CancelAll() {
    run = [](Runnable& self) noexcept {
      auto& ask = static_cast<CancelAll&>(self);
      ask.vm->for_each_live([](lua::Fiber& fiber) { fiber.cancel(OpStop::cancelled); });
      ask.done.set();
    };
  }
  lua::Vm* vm = nullptr;
  bool posted = false;
  Event done;
};

struct Stage {
  Stage(Simulation& simulation, const Run& of) : sim(simulation), run(of) {
    sim.add_invariant([this] { return vm != nullptr ? Inspector::check(*vm) : nullptr; });
    sim.add_idle_invariant([this] { return vm != nullptr && !closed ? Inspector::check_idle(*vm) : nullptr; });
    if (run.cancel_at != 0) sim.at_step(run.cancel_at, [this] { cancel(); });
  }

  /// From outside.
  void cancel() {
    if (!in_body) return;
    ask.vm = vm.get();
    ask.posted = true;
    vm->strand().enqueue(ask);
  }

  Task<void> call(const char* name, bool must_succeed) {
    Phase phase(*vm, run.program, name);
    if (name == kBody) phase.begins = [this] { begin_body(); };
    vm->strand().enqueue(phase);
    Event::Wait ended = phase.done.wait();
    (void)co_await ended;
    if (must_succeed && !phase.error.empty()) {
      std::fprintf(stderr, "%s: %s\n", name, phase.error.c_str());
      fail("a program does not do what it should");
    }
  }
  Task<void> until_idle() {
    Event::Wait idle = vm->idle().wait(sim.world().now() + 3600 * kSecond);
    const Result<void> ended = co_await idle;
    if (ended) co_return;
    vm->for_each_live([](lua::Fiber& fiber) { std::fprintf(stderr, "%s\n", fiber.traceback("never ends").c_str()); });
    fail("a Lua task never ends");
  }
  [[noreturn]] void fail(const char* what) const {
    std::fprintf(stderr, "program %s:\n", run.program);
    sim.violation(what);
  }

  void begin_body() {
    outcome.begun = sim.steps();
    operations_before = sim.world().fallible_steps();
    SimFaults faults = run.faults;
    if (run.fail_operation != 0) faults.fail_at = operations_before + run.fail_operation;
    sim.world().set_faults(faults);
    if (run.refusals > 1) (void)vm->task_errors().take();  // from now on they are kept
    memory.install(*vm, run.fail_allocation);
    sim.begin_refusing();
    in_body = true;
  }
  void end_body() {
    in_body = false;
    sim.end_refusing();
    memory.remove();
    outcome.lost_calls = run.refusals > 1 ? lost_calls(vm->task_errors().take()) : 0;
    outcome.fallible = sim.world().fallible_steps() - operations_before;
    outcome.ended = sim.steps();
    sim.world().set_faults(SimFaults::none());
  }

  /// Deferred calls that tell of having been lost for want of memory.
  static long lost_calls(const std::vector<std::string>& told) {
    constexpr std::string_view kWords = "not enough memory for deferred calls: ";
    long lost = 0;
    for (const std::string& error : told) {
      if (error.starts_with(kWords)) lost += std::strtol(error.c_str() + kWords.size(), nullptr, 10);
    }
    return lost;
  }

  Task<int> main() {
    vm = lua::Vm::create(sim.scheduler(), {.memory_max = run.memory_max, .compat = {}});
    vm->on_exit = [](int) { std::abort(); };
    lua_State* L = vm->main_state();
    EVLUA_CHECK(luaL_loadstring(L, kLuaPrograms) == LUA_OK && lua_pcall(L, 0, 0, 0) == LUA_OK);
    co_await call("setup", true);
    co_await until_idle();
    co_await call(kBody, !run.disturbed());
    co_await until_idle();
    end_body();
    if (ask.posted) {
      Event::Wait asked = ask.done.wait();
      (void)co_await asked;
    }
    lua_pushinteger(L, outcome.lost_calls);
    lua_setglobal(L, "lost_calls");
    lua_pushboolean(L, run.fail_allocation != 0 ? 1 : 0);  // a call may end by that before it has begun
    lua_setglobal(L, "call_may_fail");
    co_await call("after", true);
    co_await until_idle();
    outcome.allocations = memory.count;
    outcome.refusable = sim.refusable_steps();
    const auto messages = vm->messages();
    closed = true;
    vm->close();
    if (messages->used() != 0) fail("a message was left");
    if (lua::Vm::count() != 0) fail("a Lua state was left");
    co_return 0;
  }

  Simulation& sim;
  const Run& run;
  std::unique_ptr<lua::Vm> vm;
  FailingAllocator memory;
  CancelAll ask;
  bool in_body = false;
  bool closed = false;
  std::uint64_t operations_before = 0;
  Outcome outcome;
};

Outcome run_program(const Run& run) {
  Simulation sim({.seed = run.seed,
                  .workers = run.workers,
                  .cuts = run.cuts,
                  .refuse_at = run.refuse_at,
                  .refusals = run.refusals});
  Stage stage(sim, run);
  const std::uint64_t cuts_before = lua::Slice::cut_short();
  CHECK(sim.run(stage.main()) == 0);
  stage.outcome.digest = sim.world().digest();
  stage.outcome.cuts = lua::Slice::cut_short() - cuts_before;
  return stage.outcome;
}

template <class Body>
void for_each_program(Body body) {
  for (const char* program : kLuaProgramNames) {
    CAPTURE(program);
    name_part(program);
    body(program);
  }
}

TEST_CASE("programs do what they should, wherever their slices end") {
  std::uint64_t cuts = 0;
  for_each_seed("Lua programs", 60, [&](std::uint64_t seed) {
    SimRandom random(seed);
    for_each_program([&](const char* program) {
      Run run{.program = program, .seed = seed};
      run.workers = 1 + static_cast<unsigned>(random.below(3));
      run.faults = some_faults(random, random.chance(0.5));
      run.cuts = random.below(3) == 0 ? 0 : 0.5;
      cuts += run_program(run).cuts;
    });
  });
  CHECK(cuts > 0);
}

TEST_CASE("a seed decides everything") {
  for_each_seed("Lua programs, twice", 5, [](std::uint64_t seed) {
    for_each_program([&](const char* program) {
      const Run run{.program = program, .seed = seed, .cuts = 0.5};
      const Outcome first = run_program(run);
      const Outcome second = run_program(run);
      CHECK(first.digest == second.digest);
      CHECK(first.ended == second.ended);
    });
  });
}

/// Each program as it is, undisturbed.
template <class Body>
void for_each_calm(const char* what, Body body) {
  for_each_seed(what, 1, [&](std::uint64_t seed) {
    for_each_program([&](const char* program) { body(Run{.program = program, .seed = seed}); });
  });
}

TEST_CASE("torture: each fallible operation fails once") {
  for_each_calm("Lua programs, each operation failing",
                [](const Run& run) { torture(run_program, run, &Outcome::fallible, &Run::fail_operation); });
}

TEST_CASE("torture: each allocation of Lua code fails once") {
  for_each_calm("Lua programs, each allocation failing", [](Run run) {
    run.workers = 1;
    CHECK(torture(run_program, run, &Outcome::allocations, &Run::fail_allocation) > 0);
  });
}

TEST_CASE("torture: each task, message and Lua state is refused its memory once") {
  for_each_calm("Lua programs, each refusal",
                [](const Run& run) { torture(run_program, run, &Outcome::refusable, &Run::refuse_at); });
}

TEST_CASE("deferred calls for which no memory is found are told of") {
  Run run{.program = "deferred"};
  const std::uint64_t count = run_program(run).refusable;
  run.refusals = 2;
  long lost = 0;
  for (std::uint64_t step = 1; step <= count; ++step) {  // all of them: the one that matters must be there
    run.refuse_at = step;
    lost += run_program(run).lost_calls;
  }
  CHECK(lost > 0);
}

TEST_CASE("a Lua state without a limit of memory, too, knows what its messages take") {
  for_each_program([](const char* program) { run_program({.program = program, .memory_max = 0}); });
}

TEST_CASE("torture: all tasks are cancelled at every step") {
  for_each_calm("Lua programs, cancelled", [](Run run) {
    const Outcome whole = run_program(run);
    for_each_step(whole.ended - whole.begun, [&](std::uint64_t step) {
      run.cancel_at = whole.begun + step;
      run_program(run);
    });
  });
}

}  // namespace
}  // namespace evlua::test
