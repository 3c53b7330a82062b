// What DNS servers have answered, for as long as they say. One for the process; those used longest ago make room.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "core/time.h"
#include "net/address.h"

namespace evlua::net {

/// An answer, or the error that there is none. Never changes.
struct DnsAnswer {
  std::vector<Address> addresses;  ///< of a look-up, without ports
  std::string message;             ///< of a query
  Error error;                     ///< with a code of 0: none
  Instant until = 0;
};

class DnsCache {
 public:
  static constexpr std::size_t kEntriesMax = 1024;
  static constexpr std::size_t kAnswerBytesMax = 4096;  ///< longer ones are not kept
  static constexpr std::uint32_t kTtlMax = 3600;        ///< seconds
  static constexpr std::uint32_t kNegativeTtlMax = 300;

  /// Null when there is none that is still good. [any thread]
  std::shared_ptr<const DnsAnswer> find(std::string_view key, Instant now);
  /// [any thread]
  void put(const std::string& key, std::shared_ptr<const DnsAnswer> answer);
  void clear();
  std::size_t size();

 private:
  struct Hash {
    std::size_t operator()(std::string_view key) const noexcept;
  };
  struct Entry {
    std::string key;
    std::shared_ptr<const DnsAnswer> answer;
  };
  using Entries = std::list<Entry>;

  std::mutex lock_;
  Entries entries_;  // the one used last in front
  std::unordered_map<std::string_view, Entries::iterator, Hash> index_;
};

DnsCache& dns_cache() noexcept;

}  // namespace evlua::net
