// Every bound of the HTTP server, with its default. Reaching one is an answer (408, 413, 414, 431) or a quiet close,
// never growth without end. And whom it believes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/time.h"
#include "net/http/address_list.h"
#include "net/http/admission.h"

namespace evlua::http {

/// What becomes of X-Request-Id.
enum class RequestIds : std::uint8_t {
  off,    ///< requests have ids in logs only
  send,   ///< responses say them
  trust,  ///< likewise, and the client's own, if it has a plain one, is taken over: for servers behind a proxy
};

struct Limits {
  // -- request head ---------------------------------------------------------------------------------------------------
  std::uint32_t request_line_bytes = 8 * 1024;   ///< without its CRLF; beyond: 414
  std::uint32_t header_block_bytes = 32 * 1024;  ///< all field lines with their CRLF; beyond: 431
  std::uint32_t header_fields = 100;             ///< at most kHeaderFieldsMax; beyond: 431

  // -- request body ---------------------------------------------------------------------------------------------------
  std::uint64_t buffered_body_bytes = 10 * 1024 * 1024;      ///< what read_whole_body takes; beyond: 413
  std::uint64_t body_memory_bytes = std::uint64_t{1} << 30;  ///< of all that read_whole_body gathers in the process;
                                                             ///< beyond: 503
  std::uint64_t body_memory_per_address = 0;                 ///< of these, a client's, but for one body; 0: no limit
  std::uint32_t chunk_extension_bytes = 4 * 1024;            ///< all chunk extensions of one body; beyond: 400
  std::uint32_t trailer_bytes = 8 * 1024;                    ///< the trailer section; beyond: 400
  std::uint32_t expansion_ratio = 200;     ///< a decoded body may have buffered_body_bytes, or else this
                                           ///< many times what came of it; beyond: Errc::too_large
  std::uint32_t drain_bytes = 256 * 1024;  ///< an unread body up to this is skipped, else we close

  // -- time -----------------------------------------------------------------------------------------------------------
  Duration header_timeout = 10 * kSecond;           ///< from a request's first byte to the end of its head; beyond: 408
  Duration body_timeout = 30 * kSecond;             ///< the longest pause of a body; beyond: 408
  Duration handshake_timeout = 10 * kSecond;        ///< of TLS, all of it; then a quiet close
  Duration keep_alive_timeout = 15 * kSecond;       ///< between two requests; then a quiet close
  Duration send_timeout = 30 * kSecond;             ///< without the peer taking a single byte; then we close
  std::uint32_t min_rate = 240;                     ///< bytes per second of a body, or of what is taken of responses,
                                                    ///< while we wait for them, see patience.h; 0: any
  Duration handler_timeout = kNever;                ///< from a request's head to its response; then Handler::expire
  Duration slow_after = kNever;                     ///< a request that lasts longer is looked at: Handler::examine
  Duration stop_idle_timeout = 500 * kMillisecond;  ///< after stop: an idle connection's next request may be on its way
  Duration linger_timeout = 2 * kSecond;            ///< how long a closing connection discards what still comes in

  // -- compression ----------------------------------------------------------------------------------------------------
  int compression_level = 0;              ///< 1 to 9; 0: responses are sent as they are
  std::uint32_t compress_from = 1024;     ///< bytes: smaller bodies are not worth it
  std::uint32_t compress_upto = 1 << 20;  ///< bytes: larger ones piece by piece, others having their turn between
  std::uint32_t encoders = 64;            ///< of each worker, compressing piece by piece at once, a quarter of that for
                                          ///< one address; beyond: responses are sent as they are

  // -- protocols ------------------------------------------------------------------------------------------------------
  bool http2 = true;  ///< a client that knows it may begin with it; over TLS, ALPN decides

  // -- request ids ----------------------------------------------------------------------------------------------------
  RequestIds request_ids = RequestIds::off;

  // -- memory and connections -----------------------------------------------------------------------------------------
  std::uint32_t output_bytes = 64 * 1024;  ///< responses pending before we stop and send; a writer waits above it
  std::uint32_t connections = 60'000;      ///< open at once, over all workers; beyond: not accepted until one ends
  std::uint32_t connections_per_address = 1024;  ///< over all workers, see address_count.h; beyond: closed; 0: no limit
  std::uint32_t requests_per_connection = 0;     ///< the last one says that the connection ends; 0: no limit
  std::uint32_t descriptors_left = 0;            ///< that connections leave to others, of the process's limit, but for
                                                 ///< an eighth of that at most

  // -- overload -------------------------------------------------------------------------------------------------------
  Admission::Options admission;

  // -- proxies --------------------------------------------------------------------------------------------------------
  AddressList proxy_protocol;   ///< peers whose connections begin with a PROXY header
  AddressList trusted_proxies;  ///< peers who may say for whom they ask, see forwarded.h
};

/// Storage for field positions is a fixed array.
inline constexpr std::uint32_t kHeaderFieldsMax = 128;
/// Positions in a head are 16 bits wide.
inline constexpr std::uint32_t kHeadBytesMax = 60 * 1024;
/// Of these, for request line and fields; the rest is for a few empty lines.
inline constexpr std::uint32_t kHeadAndLineBytesMax = kHeadBytesMax - 64;

}  // namespace evlua::http
