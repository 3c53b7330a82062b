// The bytes of all request bodies that are gathered in memory, over all connections of the process, and what of them is
// one client's, so that no one takes up all of it.
#pragma once

#include <atomic>
#include <cstdint>

namespace evlua::http {

/// One body's part. What it holds is given back at its end. [any thread]
class BodyMemory {
 public:
  /// `network`: whose it is, see client_network; 0 is nobody, who has no share to keep to.
  explicit BodyMemory(std::uint64_t network) noexcept : network_(network) {}
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
  const std::uint64_t network_;
  std::uint64_t held_ = 0;
  Account* account_ = nullptr;  // once it holds something that counts
};

}  // namespace evlua::http
