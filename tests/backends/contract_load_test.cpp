// Goal: more of everything than a backend has room for is back-pressure and not an error: operations, buffers,
// descriptors.
#include <sys/resource.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

/// Raises the soft limit as far as it goes; its value.
std::size_t raise_descriptor_limit() {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 100'000);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  return static_cast<std::size_t>(limit.rlim_cur);
}

// -- operations -----------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("ten thousand operations at once all finish", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(3, [](Harness& h) {
    constexpr std::size_t kOps = 10'000;
    std::vector<TestOp> ops(kOps);
    for (TestOp& op : ops) h.submit(op);
    CHECK(h.backend().in_flight() == kOps);
    REQUIRE(h.run_until([&h] { return h.backend().in_flight() == 0; }));
    for (TestOp& op : ops) REQUIRE(op.times_ready == 1);
  });
}

TEST_CASE_TEMPLATE("ten thousand receives wait at once, and each gets its byte", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(2, [](Harness& h) {
    constexpr std::size_t kPairs = 500;
    constexpr std::size_t kEach = 20;
    std::vector<std::array<int, 2>> pairs;
    for (std::size_t i = 0; i < kPairs; ++i) pairs.push_back(h.pair());
    std::vector<TestOp> recvs(kPairs * kEach);
    std::string rooms(recvs.size(), '\0');
    for (std::size_t i = 0; i < recvs.size(); ++i) {
      set_recv(recvs[i], pairs[i % kPairs][1], &rooms[i], 1);
      h.submit(recvs[i]);
    }
    h.linger();
    CHECK(h.backend().in_flight() == recvs.size());
    const std::string text(kEach, 'x');
    for (const auto& pair : pairs) REQUIRE(h.send_all(pair[0], text));
    REQUIRE(h.run_until([&h] { return h.backend().in_flight() == 0; }));
    for (const TestOp& recv : recvs) REQUIRE(recv.res == 1);
    CHECK(rooms == std::string(recvs.size(), 'x'));
  });
}

TEST_CASE_TEMPLATE("operations can be cancelled while too many wait", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(1, [](Harness& h) {
    const auto [a, b] = h.pair();
    constexpr std::size_t kOps = 6000;
    std::vector<TestOp> recvs(kOps);
    char room;
    for (TestOp& recv : recvs) {
      set_recv(recv, b, &room, 1);
      h.submit(recv);
    }
    for (std::size_t i = kOps; i > 0; --i) h.cancel(recvs[i - 1]);  // the latest first: they are in the backlog
    REQUIRE(h.run_until([&h] { return h.backend().in_flight() == 0; }));
    for (const TestOp& recv : recvs) REQUIRE(recv.res == -ECANCELED);
    REQUIRE(h.send_all(a, "x"));
    CHECK(h.receive(b, 1) == "x");
  });
}

// -- buffers --------------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("six hundred receives without memory all get data, when 256 buffers are to lend", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(10, [](Harness& h) {
    constexpr std::size_t kOps = 600;
    std::vector<std::array<int, 2>> pairs;
    std::vector<TestOp> recvs(kOps);
    for (std::size_t i = 0; i < kOps; ++i) pairs.push_back(h.pair());
    for (int round = 0; round < 3; ++round) {
      for (std::size_t i = 0; i < kOps; ++i) {
        set_recv(recvs[i], pairs[i][1], nullptr, 0);
        h.submit(recvs[i]);
      }
      h.linger();
      h.backend().buffers().reclaim();
      CHECK(h.backend().buffers().lent() == 0);
      for (std::size_t i = 0; i < kOps; ++i) REQUIRE(h.send_all(pairs[i][0], std::to_string(i % 10)));
      REQUIRE(h.run_until([&h] { return h.backend().in_flight() == 0; }));
      std::set<const char*> places;
      std::vector<Lease> leases;
      for (std::size_t i = 0; i < kOps; ++i) {
        REQUIRE(recvs[i].res == 1);
        leases.push_back(Lease::from(recvs[i], h.backend().buffers()));
        REQUIRE(leases.back().chars()[0] == static_cast<char>('0' + i % 10));
        places.insert(leases.back().chars());
      }
      CHECK(places.size() == kOps);  // no buffer was lent twice
      CHECK(h.backend().buffers().lent() <= BufferSource::kBufferCount);
      if (round == 1) {
        // Given back elsewhere; the owner takes them in by itself.
        std::thread([&leases] { leases.clear(); }).join();
      }
    }
  });
}

TEST_CASE_TEMPLATE("a backend may end with more receives done than it has buffers", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(5, [](Harness& h) {
    constexpr std::size_t kOps = 400;
    std::vector<std::array<int, 2>> pairs;
    std::vector<TestOp> recvs(kOps);
    for (std::size_t i = 0; i < kOps; ++i) {
      pairs.push_back(h.pair());
      REQUIRE(h.send_all(pairs[i][0], "x"));
    }
    for (std::size_t i = 0; i < kOps; ++i) {
      set_recv(recvs[i], pairs[i][1], nullptr, 0);
      h.submit(recvs[i]);
    }
    h.destroy_backend();
  });
}

// -- descriptors ----------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("five thousand pairs of sockets, data through each", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(1, [](Harness& h) {
    std::size_t count = 5000;
    const std::size_t limit = raise_descriptor_limit();
    if (!h.is_simulated() && limit < 2 * count + 100) {
      count = (limit - 100) / 2;
      MESSAGE("only ", count, " pairs: the hard limit of descriptors is ", limit);
    }
    std::vector<std::array<int, 2>> pairs;
    std::vector<TestOp> recvs(count);
    std::vector<TestOp> sends(count);
    std::vector<std::uint32_t> got(count);
    std::vector<std::uint32_t> sent(count);
    for (std::size_t i = 0; i < count; ++i) {
      pairs.push_back(h.pair());
      set_recv(recvs[i], pairs[i][1], &got[i], sizeof(got[i]));
      h.submit(recvs[i]);
    }
    h.linger();
    const bool whole = !h.is_simulated();
    for (std::size_t i = 0; i < count; ++i) {
      sent[i] = static_cast<std::uint32_t>(i * 2654435761U);
      set_send(sends[i], pairs[i][0], std::string_view(reinterpret_cast<char*>(&sent[i]), sizeof(sent[i])));
      h.submit(sends[i]);
    }
    REQUIRE(h.run_until([&h] { return h.backend().in_flight() == 0; }));
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE(recvs[i].res >= (whole ? 4 : 1));
      const auto bytes = static_cast<std::size_t>(recvs[i].res);
      REQUIRE(std::memcmp(&got[i], &sent[i], bytes) == 0);
    }
  });
}

/// As long as it lives no descriptor can be opened.
class NoDescriptors {
 public:
  explicit NoDescriptors(Harness& h) : h_(h) {
    if (h.is_simulated()) {
      SimFaults faults = h.world()->faults();
      allowed_ = faults.descriptors_max;
      faults.descriptors_max = h.world()->open_descriptors();
      h.world()->set_faults(faults);
      return;
    }
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit_) == 0);
    const int highest = ::fcntl(0, F_DUPFD_CLOEXEC, 3);  // the lowest free number; all below are taken
    REQUIRE(highest >= 0);
    fill_.push_back(highest);
    rlimit tight = limit_;
    tight.rlim_cur = static_cast<rlim_t>(highest) + 1;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    REQUIRE(::fcntl(0, F_DUPFD_CLOEXEC, 3) < 0);
  }
  ~NoDescriptors() {
    if (h_.is_simulated()) {
      SimFaults faults = h_.world()->faults();
      faults.descriptors_max = allowed_;
      h_.world()->set_faults(faults);
      return;
    }
    ::setrlimit(RLIMIT_NOFILE, &limit_);
    for (const int fd : fill_) ::close(fd);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  Harness& h_;
  std::size_t allowed_ = 0;
  rlimit limit_{};
  std::vector<int> fill_;
};

TEST_CASE_TEMPLATE("an accept without a free descriptor fails with EMFILE, and the listener lives on", Kind,
                   EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    sockaddr_storage address;
    socklen_t length;
    const int listener = h.listen(address, length);
    // Once without the shortage: a sanitizer needs descriptors itself when it checks something for the first time.
    h.pair(Family::tcp);
    const std::string path = h.path("file");
    h.close(h.open(path, O_RDWR | O_CREAT));
    for (const bool accept_first : {false, true}) {
      const int client = h.socket();
      TestOp connect;
      TestOp accept;
      set_connect(connect, client, address, length);
      set_accept(accept, listener);
      {
        const NoDescriptors none(h);
        if (accept_first) {
          h.submit(accept);
          h.linger();
        }
        CHECK(h.run(connect) == 0);
        if (!accept_first) h.submit(accept);
        CHECK(h.finish(accept) == -EMFILE);
        TestOp open;
        set_open(open, path, O_RDWR | O_CREAT);
        CHECK(h.run(open) == -EMFILE);
      }
      set_accept(accept, listener);
      const int server = h.own(h.run(accept));
      REQUIRE(server >= 0);
      REQUIRE(h.send_all(client, "after all"));
      CHECK(h.receive(server, 9) == "after all");
    }
  });
}

}  // namespace
}  // namespace evlua::test
