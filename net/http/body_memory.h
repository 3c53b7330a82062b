// The bytes of all request bodies that are gathered in memory, over all connections of the process, and what of them is
// one client's, so that no one takes up all of it.
#pragma once

#include <atomic>
#include <cstdint>

namespace evlua::http {

/// What the bodies of one connection may hold before they count, so that small ones find room whatever others hold.
/// [any thread]
class BodyAllowance {
 public:
  static constexpr std::uint32_t kBytes = 16 * 1024;

  /// As much of `bytes` as there is left.
  std::uint32_t take(std::uint64_t bytes) noexcept;
  void give_back(std::uint32_t bytes) noexcept { left_.fetch_add(bytes, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> left_{kBytes};
};

/// One body's part. What it holds is given back at its end. [any thread]
class BodyMemory {
 public:
  /// `network`: whose it is, see client_network; 0 is nobody, who has no share to keep to. `allowance`: its
  /// connection's, which has to live as long.
  BodyMemory(std::uint64_t network, BodyAllowance& allowance) noexcept : network_(network), allowance_(allowance) {}
  BodyMemory(const BodyMemory&) = delete;
  BodyMemory& operator=(const BodyMemory&) = delete;
  ~BodyMemory();

  enum class Outcome : std::uint8_t {
    held,
    full,        ///< all bodies would hold more than they may
    over_share,  ///< those of this client would
  };
  /// `most`: of all; `share`: of a client, 0 for as much as it likes. A body that is its client's only one need not
  /// keep to the share. What is not held changes nothing.
  Outcome hold(std::uint64_t more, std::uint64_t most, std::uint64_t share) noexcept;

  static std::uint64_t in_use() noexcept;

  struct Account;  ///< what one client holds

 private:
  Outcome count(std::uint64_t more, std::uint64_t most, std::uint64_t share) noexcept;

  const std::uint64_t network_;
  BodyAllowance& allowance_;
  std::uint32_t allowed_ = 0;   // of the allowance
  std::uint64_t held_ = 0;      // beyond that
  Account* account_ = nullptr;  // once it holds something that counts
};

}  // namespace evlua::http
