// How many responses are compressed piece by piece at once. Each holds the memory of its encoder, a megabyte or so, for
// as long as its client takes; beyond the bound responses go out as they are.
#pragma once

#include <atomic>
#include <cstdint>

namespace evlua::http {

/// One response's place among those of its worker, and of its client over all workers. Given back at its end.
/// [any thread]
class EncoderPlace {
 public:
  EncoderPlace() = default;
  EncoderPlace(const EncoderPlace&) = delete;
  EncoderPlace& operator=(const EncoderPlace&) = delete;
  ~EncoderPlace() { leave(); }

  /// `of_worker` counts those of the worker, and must outlive the place. `network`: whose it is, see client_network; 0
  /// is nobody, who has no share to keep to. False, and nothing is taken: there are `most` of the worker, or `share` of
  /// the client already. The answer stays the same until leave().
  bool take(std::atomic<std::uint32_t>& of_worker, std::uint32_t most, std::uint64_t network,
            std::uint32_t share) noexcept;
  void leave() noexcept;
  bool held() const noexcept { return of_worker_ != nullptr; }

  /// Of the process.
  static std::uint64_t in_use() noexcept;
  /// How often there was none.
  static std::uint64_t refused() noexcept;

 private:
  std::atomic<std::uint32_t>* of_worker_ = nullptr;
  std::uint64_t network_ = 0;
  bool refused_ = false;
};

}  // namespace evlua::http
