// An input that tells what happens, byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evlua::fuzz {

/// What is left of the input.
class Script {
 public:
  explicit Script(std::string_view input) noexcept : rest_(input) {}
  bool empty() const noexcept { return rest_.empty(); }
  std::uint8_t next() noexcept { return rest_.empty() ? 0 : static_cast<std::uint8_t>(take(1)[0]); }
  std::string_view take(std::size_t size) noexcept {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }

 private:
  std::string_view rest_;
};

}  // namespace evlua::fuzz
