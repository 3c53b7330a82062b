// evluaserver's options that bound what clients may take: time, room, connections.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "net/http/limits.h"

namespace CLI {
class App;
}

namespace evlua::tools {

class LimitOptions {
 public:
  /// `limits` must outlive `app`.
  void define(CLI::App& app, http::Limits& limits);
  /// What was given goes into `limits`. False after printing what is wrong.
  bool complete(http::Limits& limits) const;
  /// Gives those options their defaults that depend on what was given. REQUIRES: `app` has parsed it.
  void tell_defaults(CLI::App& app, const http::Limits& limits) const;

 private:
  std::uint64_t share_of_an_address(const http::Limits& limits) const noexcept;
  void define_times(CLI::App& app);
  void define_load(CLI::App& app, http::Limits& limits);

  double header_seconds_ = 10;
  double body_seconds_ = 30;
  double keep_alive_seconds_ = 15;
  double handshake_seconds_ = 10;
  double send_seconds_ = 30;
  double queue_seconds_ = 2;
  std::optional<std::uint64_t> body_memory_per_address_;
};

}  // namespace evlua::tools
