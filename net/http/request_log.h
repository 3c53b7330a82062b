// Who is told of every exchange that has ended: an access log.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/time.h"

namespace evlua::http {

class Exchange;

struct ExchangeEnd {
  std::string_view refused_line;  ///< of a request that could not be read: how it began; empty for others
  Duration duration = 0;          ///< from the end of the request's head to the end of the response
  int status = 0;
  bool refused = false;  ///< the request could not be read: the exchange tells nothing of it
  bool aborted = false;  ///< the response has not, or not wholly, gone out
};

/// One per worker, called there. Must not block.
class RequestLog {
 public:
  virtual void ended(Exchange& exchange, const ExchangeEnd& end) noexcept = 0;

 protected:
  ~RequestLog() = default;
};

}  // namespace evlua::http
