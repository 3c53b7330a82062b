#include "tools/limit_options.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "tools/option_values.h"

namespace evlua::tools {

namespace {

/// A quarter of what the machine has, 1 GiB at most.
std::uint64_t body_memory_by_default() noexcept {
  const auto pages = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L));
  const auto page_bytes = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PAGESIZE), 0L));
  const std::uint64_t quarter = pages * page_bytes / 4;
  return quarter == 0 ? std::uint64_t{1} << 30 : std::min(quarter, std::uint64_t{1} << 30);
}

}  // namespace

void LimitOptions::define_times(CLI::App& app) {
  const CLI::Validator seconds = seconds_from(0.001, 1e6);
  app.add_option("--header-timeout", header_seconds_, "seconds from a request's first byte to the end of its head")
      ->check(seconds);
  app.add_option("--body-timeout", body_seconds_, "seconds that a request's body may pause")->check(seconds);
  app.add_option("--keep-alive", keep_alive_seconds_, "seconds that a connection may wait for its next request")
      ->check(seconds);
  app.add_option("--handshake-timeout", handshake_seconds_, "seconds that a TLS handshake may take")->check(seconds);
  app.add_option("--send-timeout", send_seconds_, "seconds that a client may take nothing of a response")
      ->check(seconds);
}

void LimitOptions::define_load(CLI::App& app, http::Limits& limits) {
  limits.body_memory_bytes = body_memory_by_default();
  app.add_option("--max-body-memory", limits.body_memory_bytes, "bytes of all bodies that req:body() gathers")
      ->transform(whole_number(0, kOptionBytesMax));
  app.add_option("--max-body-memory-per-address", body_memory_per_address_,
                 "of these, from one address, unless it is a single body (default: a quarter); 0: no limit")
      ->transform(whole_number(0, kOptionBytesMax));
  app.add_option("--max-encoders", limits.encoders,
                 "responses of each worker that are compressed piece by piece at once; others go out as they are")
      ->transform(whole_number(1, kOptionCountMax));
  app.add_option(
         "--queue-target", queue_seconds_,
         "seconds that requests may wait for the processor when they always do; then some are refused; 0: no limit")
      ->check(seconds_from(0));
  app.add_option("--max-queue", limits.admission.queue_max, "requests of each worker that may wait for Lua")
      ->transform(whole_number(1, kOptionCountMax));
}

void LimitOptions::define(CLI::App& app, http::Limits& limits) {
  app.add_option("--max-body", limits.buffered_body_bytes, "bytes of a body that req:body() takes")
      ->transform(whole_number(0, kOptionBytesMax));
  app.add_option("--max-expansion", limits.expansion_ratio,
                 "how many times what was sent a decoded body may have, beyond --max-body (default 200)")
      ->transform(whole_number(1, 1'000'000));
  app.add_option("--max-connections", limits.connections, "connections open at once")
      ->transform(whole_number(1, kOptionCountMax));
  app.add_option("--max-connections-per-address", limits.connections_per_address,
                 "of these, from one address (IPv6: one /64), but for --trusted-proxy; more are closed; 0: no limit")
      ->transform(whole_number(0, kOptionCountMax));
  app.add_option("--max-requests", limits.requests_per_connection,
                 "requests of one connection, which then ends; 0: no limit")
      ->transform(whole_number(0, kOptionCountMax));
  app.add_option("--max-uri", limits.request_line_bytes, "bytes of a request line")
      ->transform(whole_number(256, http::kHeadBytesMax / 2));
  app.add_option("--max-header-size", limits.header_block_bytes, "bytes of all header fields of a request")
      ->transform(whole_number(256, http::kHeadBytesMax));
  app.add_option("--max-header-fields", limits.header_fields, "header fields of a request")
      ->transform(whole_number(1, http::kHeaderFieldsMax));
  app.add_option("--response-buffer", limits.output_bytes,
                 "bytes of a response that wait for the client before its writer has to")
      ->transform(whole_number(1024, 1U << 30));
  app.add_option("--min-rate", limits.min_rate,
                 "bytes per second that a client has to send of a body, or take of a response, on average; 0: any")
      ->transform(whole_number(0, kOptionCountMax));
  define_times(app);
  define_load(app, limits);
}

std::uint64_t LimitOptions::share_of_an_address(const http::Limits& limits) const noexcept {
  return body_memory_per_address_.value_or(std::max<std::uint64_t>(limits.body_memory_bytes / 4, 1));
}

void LimitOptions::tell_defaults(CLI::App& app, const http::Limits& limits) const {
  app.get_option("--max-body-memory-per-address")->default_str(std::to_string(share_of_an_address(limits)));
}

bool LimitOptions::complete(http::Limits& limits) const {
  if (limits.request_line_bytes + limits.header_block_bytes > http::kHeadAndLineBytesMax) {
    std::fprintf(stderr, "evluaserver: --max-uri and --max-header-size may be %u bytes together\n",
                 http::kHeadAndLineBytesMax);
    return false;
  }
  limits.body_memory_per_address = share_of_an_address(limits);
  limits.header_timeout = duration_from_seconds(header_seconds_);
  limits.body_timeout = duration_from_seconds(body_seconds_);
  limits.keep_alive_timeout = duration_from_seconds(keep_alive_seconds_);
  limits.handshake_timeout = duration_from_seconds(handshake_seconds_);
  if (queue_seconds_ > 0) limits.admission.target = duration_from_seconds(queue_seconds_);
  limits.send_timeout = duration_from_seconds(send_seconds_);
  return true;
}

}  // namespace evlua::tools
