// Goal: a Dict loses no update under any interleaving, keeps its bound, and forgets what has expired or was not used;
// locks and watches lose no waiter.
#include "core/shared/dict.h"

#include <atomic>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/scope.h"
#include "core/shared/lock_table.h"
#include "core/shared/metrics.h"
#include "tests/core/runtime.h"
#include "tests/support/threads.h"

namespace evlua {
namespace {

using test::on_every_setup;
using test::on_threads;
using test::Runtime;
using test::Setup;
using test::Yield;
using Outcome = Dict::Outcome;
using When = Dict::When;
using Value = Dict::Value;

constexpr bool kSlow = EVLUA_ASAN || EVLUA_TSAN;
constexpr int kRounds = kSlow ? 5000 : 50000;

std::atomic<Instant> fake_now{1};
Instant fake_clock() noexcept { return fake_now.load(); }

std::string text_of(Dict& dict, std::string_view key) {
  Dict::Cache cache;
  Value value;
  dict.get(key, value, cache);
  return value.kind == Value::Kind::string ? std::string(value.string) : std::string("-");
}

Value integer(std::int64_t number) { return Value::of(number); }

TEST_CASE("increments, conditional stores and compare-and-store of many threads add up") {
  Dict dict({});
  on_threads(4, [&](int) {
    Dict::Cache cache;
    for (int i = 0; i < kRounds; ++i) {
      Value sum;
      CHECK(dict.increment("sum", integer(1), integer(0), kNever, sum, cache) == Outcome::done);
      Value value;
      std::uint64_t version = 0;
      Outcome stored = Outcome::changed;
      while (stored == Outcome::changed) {
        dict.get("versioned", value, cache, &version);
        const std::int64_t next = value.kind == Value::Kind::nil ? 1 : value.integer + 1;
        stored = dict.store_if("versioned", version, integer(next), kNever);
      }
      for (bool done = false; !done;) {
        dict.get("text", value, cache);
        const std::string before = value.kind == Value::Kind::string ? std::string(value.string) : std::string("0");
        const std::string after = std::to_string(std::stoll(before) + 1);
        done = dict.compare_and_store("text", value, Value::of(std::string_view(after)), kNever) == Outcome::done;
        cache.release();
      }
    }
  });
  Dict::Cache cache;
  Value value;
  dict.get("sum", value, cache);
  CHECK(value.integer == 4 * kRounds);
  dict.get("versioned", value, cache);
  CHECK(value.integer == 4 * kRounds);
  CHECK(text_of(dict, "text") == std::to_string(4 * kRounds));
}

TEST_CASE("whatever threads do, the bound is kept, values are whole, and every byte is given back") {
  for (const std::size_t bytes : {std::size_t{8192}, std::size_t{1} << 19}) {
    Dict dict({.bytes = bytes});
    on_threads(4, [&](int thread) {
      std::mt19937 random(static_cast<unsigned>(thread) + 1);
      Dict::Cache cache;
      for (int i = 0; i < kRounds; ++i) {
        const std::string key = "key" + std::to_string(random() % 2000);
        const std::string made(random() % 300, static_cast<char>('a' + random() % 26));
        Value value;
        switch (random() % 8) {
          case 0: dict.erase(key); break;
          case 1:
            (void)dict.store(key, Value::of(std::string_view(made)), monotonic_now() + 50 * kMicrosecond, When::always);
            break;
          case 2: (void)dict.store(key, integer(7), kNever, When::always); break;
          case 3:
            if (random() % 500 == 0) dict.clear();
            if (random() % 100 == 0) CHECK(dict.keys(100).size() <= 100);
            break;
          case 4: (void)dict.store(key, Value::of(std::string_view(made)), kNever, When::absent); break;
          case 5: (void)dict.store(key, Value::of(std::string_view(made)), kNever, When::present); break;
          default:
            dict.get(key, value, cache);
            if (value.kind == Value::Kind::string && !value.string.empty()) {
              CHECK(value.string.find_first_not_of(value.string.front()) == std::string_view::npos);
            }
            cache.release();
        }
      }
    });
    CHECK(dict.statistics().bytes <= bytes);
    dict.clear();
    CHECK(dict.statistics().bytes == 0);
    CHECK(dict.statistics().entries == 0);
  }
}

TEST_CASE("one thread against a model, with a clock of its own") {
  fake_now = 1;
  Dict dict({.bytes = std::size_t{1} << 20, .evict = false, .clock = &fake_clock});
  struct Expected {
    std::string text;
    Instant expires;
  };
  std::unordered_map<std::string, Expected> model;
  std::mt19937 random(7);
  for (int i = 0; i < kRounds; ++i) {
    const Instant now = fake_now += static_cast<Instant>(random() % 3);
    std::erase_if(model, [now](const auto& entry) { return entry.second.expires <= now; });
    const std::string key = std::to_string(random() % 300);
    const std::string text = std::to_string(random());
    const Instant expires = random() % 2 == 0 ? kNever : now + 1 + static_cast<Instant>(random() % 500);
    const bool there = model.contains(key);
    const Value value = Value::of(std::string_view(text));
    switch (random() % 6) {
      case 0:
        CHECK(dict.store(key, value, expires, When::always) == Outcome::done);
        model[key] = {text, expires};
        break;
      case 1:
        CHECK(dict.store(key, value, expires, When::absent) == (there ? Outcome::exists : Outcome::done));
        if (!there) model[key] = {text, expires};
        break;
      case 2:
        CHECK(dict.store(key, value, expires, When::present) == (there ? Outcome::done : Outcome::missing));
        if (there) model[key] = {text, expires};
        break;
      case 3:
        CHECK(dict.erase(key) == there);
        model.erase(key);
        break;
      case 4: {
        Instant told = 0;
        CHECK(dict.expiry(key, told) == there);
        if (there) CHECK(told == model[key].expires);
        break;
      }
      default: CHECK(text_of(dict, key) == (there ? model[key].text : "-"));
    }
  }
  const Instant now = fake_now;
  std::erase_if(model, [now](const auto& entry) { return entry.second.expires <= now; });
  CHECK(dict.keys(100000).size() == model.size());
}

TEST_CASE("what was not used for longest goes first, what has expired before it") {
  fake_now = 1;
  Dict dict({.bytes = 4096, .clock = &fake_clock});
  const std::string text(200, 'x');
  const Value value = Value::of(std::string_view(text));
  for (int i = 0; i < 5; ++i)
    CHECK(dict.store("old" + std::to_string(i), value, i == 4 ? 5 : kNever, When::always) == Outcome::done);
  CHECK(text_of(dict, "old0") == text);
  fake_now = 10;
  int added = 0;
  while (dict.statistics().evictions == 0) {
    CHECK(dict.store("new" + std::to_string(added++), value, kNever, When::always) == Outcome::done);
  }
  CHECK(text_of(dict, "old1") == "-");
  CHECK(text_of(dict, "old0") == text);
  CHECK(text_of(dict, "old2") == text);
}

TEST_CASE("increments that race removal, replacement and conditional stores are neither lost nor doubled") {
  Dict dict({});
  std::atomic<std::int64_t> taken{0};
  on_threads(4, [&](int thread) {
    Dict::Cache cache;
    Value value;
    std::uint64_t version = 0;
    for (int i = 0; i < kRounds; ++i) {
      if (thread < 2) {
        while (dict.increment("n", integer(1), integer(0), kNever, value, cache) !=
               Outcome::done) {  // a string is there
        }
        continue;
      }
      dict.get("n", value, cache, &version);
      const std::int64_t found = value.kind == Value::Kind::integer ? value.integer : 0;
      Value left;  // nil, a number in place, a string in its place and gone again
      if (i % 3 == 1) left = integer(0);
      if (i % 3 == 2) left = Value::of(std::string_view("0"));
      if (dict.store_if("n", version, left, kNever) != Outcome::done) continue;
      taken += found;
      if (i % 3 != 2) continue;
      dict.get("n", value, cache, &version);
      if (value.kind == Value::Kind::string)
        (void)dict.store_if("n", version, Value(), kNever);  // or somebody else does
    }
  });
  Dict::Cache cache;
  Value value;
  dict.get("n", value, cache);
  CHECK(taken + (value.kind == Value::Kind::nil ? 0 : value.integer) == 2 * kRounds);
}

TEST_CASE("a cache sees what has become of the entries it knows, and keeps those in use") {
  fake_now = 1;
  Dict dict({.bytes = 4096, .clock = &fake_clock});
  Dict::Cache cache;
  Value value;
  const auto read = [&](std::string_view key) {
    dict.get(key, value, cache);
    return value;
  };
  CHECK(dict.store("n", integer(1), kNever, When::always) == Outcome::done);
  CHECK(read("n") == integer(1));
  CHECK(dict.store("n", Value::of(true), 5, When::always) == Outcome::done);
  CHECK(read("n") == Value::of(true));
  CHECK(dict.increment("n", integer(1), integer(0), kNever, value, cache) == Outcome::not_number);
  fake_now = 5;
  CHECK(read("n") == Value());
  CHECK(dict.increment("n", integer(1), integer(7), kNever, value, cache) == Outcome::done);
  CHECK(read("n") == integer(8));
  CHECK(dict.increment("n", Value::of(0.5), integer(0), kNever, value, cache) == Outcome::done);
  CHECK(read("n") == Value::of(8.5));
  CHECK(dict.store("n", Value::of(std::string_view("text")), kNever, When::always) == Outcome::done);
  CHECK(read("n") == Value::of(std::string_view("text")));
  const std::string large(2000, 'x');
  CHECK(dict.store("n", Value::of(std::string_view(large)), kNever, When::always) == Outcome::done);
  CHECK(read("n") == Value::of(std::string_view(large)));
  dict.clear();
  CHECK(value.string == large);  // it is there until the next call
  CHECK(read("n") == Value());
  CHECK(dict.statistics().bytes == 0);

  CHECK(dict.store("kept", integer(1), kNever, When::always) == Outcome::done);
  for (int i = 0; i < 200; ++i) {
    CHECK(read("kept") == integer(1));
    CHECK(dict.store(std::to_string(i), integer(i), kNever, When::always) == Outcome::done);
  }
  CHECK(dict.statistics().evictions > 100);
}

TEST_CASE("who reads or adds beside a writer never takes a value for one that lives longer") {
  fake_now = 10;
  Dict dict({.clock = &fake_clock});
  on_threads(3, [&](int thread) {
    Dict::Cache cache;
    Value value;
    for (int i = 0; i < kRounds; ++i) {
      if (thread == 0) {  // over before anybody can see it, but for the first
        const bool over = i % 2 == 1;
        CHECK(dict.store("n", integer(over ? 1000 : 0), over ? 5 : kNever, When::always) == Outcome::done);
      } else if (thread == 1) {
        dict.get("n", value, cache);
        CHECK((value.kind == Value::Kind::nil || value.integer < 1000));
      } else {
        const Outcome outcome = dict.increment("n", integer(-1), Value(), kNever, value, cache);
        CHECK((outcome == Outcome::missing || value.integer < 0));
      }
    }
  });
}

TEST_CASE("a full dictionary that must not evict refuses, until something has expired") {
  fake_now = 1;
  Dict dict({.bytes = std::size_t{1} << 19, .evict = false, .clock = &fake_clock});
  const std::string text(100, 'x');
  const Value value = Value::of(std::string_view(text));
  int count = 0;
  while (dict.store(std::to_string(count), value, 100, When::always) == Outcome::done) ++count;
  CHECK(count > 1000);
  CHECK(dict.store("0", value, 100, When::always) == Outcome::done);
  CHECK(dict.store("more", value, 100, When::always) == Outcome::full);
  fake_now = 100;
  CHECK(dict.store("more", value, 200, When::always) == Outcome::done);
  CHECK(dict.statistics().entries == 1);
}

Task<void> count_changes(Dict& dict, int& seen) {
  Watch watch(dict.watches(), std::nullopt);
  for (std::int64_t last = 0; last < 2000;) {
    Result<std::string> key = co_await watch.next(kNever);
    CHECK(key.has_value());
    Dict::Cache cache;
    Value value;
    dict.get("n", value, cache);
    CHECK(value.integer >= last);  // it may have been seen before the watch was told
    last = value.integer;
    ++seen;
  }
}

Task<void> make_changes(Dict& dict) {
  Yield yield;
  for (int i = 0; i < 2000; ++i) {
    Value sum;
    Dict::Cache cache;
    CHECK(dict.increment("n", integer(1), integer(0), kNever, sum, cache) == Outcome::done);
    if (i % 7 == 0) co_await yield;
  }
}

Task<int> watch_changes(Scheduler& scheduler) {
  Dict dict({});
  int seen = 0;
  TaskScope scope(scheduler);
  scope.spawn(count_changes(dict, seen));
  scope.spawn(make_changes(dict));
  (void)co_await scope.join();
  CHECK(seen >= 1);
  co_return 0;
}

TEST_CASE("a watch is woken for the last change, on any worker") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    CHECK(runtime.run(watch_changes(runtime.scheduler())) == 0);
  });
}

Task<void> contend(LockTable& locks, int& inside, int& entered, int number) {
  for (int i = 0; i < 200; ++i) {
    std::string name = "door";
    const Instant until = (i + number) % 5 == 0 ? monotonic_now() + 20 * kMicrosecond : kNever;
    const Result<void> taken = co_await locks.lock(std::move(name), until);
    if (!taken) continue;
    CHECK(++inside == 1);
    Yield yield;
    co_await yield;
    ++entered;
    --inside;
    locks.unlock("door");
  }
}

Task<int> contend_all(Scheduler& scheduler) {
  LockTable locks;
  int inside = 0;
  int entered = 0;
  TaskScope scope(scheduler);
  for (int i = 0; i < 8; ++i) scope.spawn(contend(locks, inside, entered, i));
  (void)co_await scope.join();
  CHECK(entered >= 8 * 160);
  CHECK(locks.size() == 0);
  co_return 0;
}

TEST_CASE("a named lock has one holder at a time, whoever gives up waiting") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    CHECK(runtime.run(contend_all(runtime.scheduler())) == 0);
  });
}

TEST_CASE("counters and histograms lose nothing") {
  Counter counter;
  Histogram histogram({1, 2, 3});
  on_threads(4, [&](int thread) {
    for (int i = 0; i < kRounds; ++i) {
      counter.add(1);
      histogram.observe(thread + 0.5);
    }
  });
  CHECK(counter.value() == 4 * kRounds);
  const Histogram::Snapshot all = histogram.snapshot();
  CHECK(all.count == 4 * static_cast<std::uint64_t>(kRounds));
  for (const std::uint64_t count : all.counts) CHECK(count == static_cast<std::uint64_t>(kRounds));
}

}  // namespace
}  // namespace evlua
