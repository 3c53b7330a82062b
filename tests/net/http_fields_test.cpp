// The small grammars of header fields: dates, ranges, weights, types.
#include <doctest/doctest.h>

#include <array>
#include <string_view>

#include "net/http/accept.h"
#include "net/http/dates.h"
#include "net/http/media_types.h"
#include "net/http/ranges.h"

namespace evlua::http {
namespace {

TEST_CASE("dates in their three forms") {
  constexpr std::int64_t kThen = 784111777;
  CHECK(format_date(kThen) == "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(parse_date("Sun, 06 Nov 1994 08:49:37 GMT") == kThen);
  CHECK(parse_date("Sunday, 06-Nov-94 08:49:37 GMT") == kThen);
  CHECK(parse_date("Sun Nov  6 08:49:37 1994") == kThen);
  CHECK(parse_date(format_date(0)) == 0);
  CHECK(parse_date(format_date(4102444800)) == 4102444800);
  CHECK(format_date(951825600) == "Tue, 29 Feb 2000 12:00:00 GMT");
  CHECK(format_date(-1) == "Wed, 31 Dec 1969 23:59:59 GMT");
  CHECK(format_date(INT64_MAX) == "Fri, 31 Dec 9999 23:59:59 GMT");
  CHECK(format_date(INT64_MIN) == "Sat, 01 Jan 0000 00:00:00 GMT");
  for (const std::string_view bad :
       {"", "Sun", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET", "784111777", "Sun Nov 6 08:49:37 1994"}) {
    CAPTURE(bad);
    CHECK(!parse_date(bad));
  }
}

TEST_CASE("ranges") {
  using Outcome = Ranges::Outcome;
  const auto one = [](std::string_view field, std::uint64_t size) {
    const Ranges parsed = parse_ranges(field, size);
    return parsed.outcome == Outcome::some && parsed.ranges.size() == 1 ? parsed.ranges[0] : ByteRange{999, 999};
  };
  CHECK(one("bytes=0-0", 10) == ByteRange{0, 1});
  CHECK(one("bytes=2-5", 10) == ByteRange{2, 4});
  CHECK(one("BYTES=2-", 10) == ByteRange{2, 8});
  CHECK(one("bytes=-3", 10) == ByteRange{7, 3});
  CHECK(one("bytes=-30", 10) == ByteRange{0, 10});
  CHECK(one("bytes=5-99999999999999999999999999", 10) == ByteRange{5, 5});
  CHECK(one("bytes= 1-1 ,", 10) == ByteRange{1, 1});
  CHECK(one("bytes=20-30,1-2", 10) == ByteRange{1, 2});
  const Ranges two = parse_ranges("bytes=0-1,-2", 10);
  CHECK(two.ranges == std::vector<ByteRange>{{0, 2}, {8, 2}});
  CHECK(parse_ranges("bytes=10-", 10).outcome == Outcome::none);
  CHECK(parse_ranges("bytes=-0", 10).outcome == Outcome::none);
  CHECK(parse_ranges("bytes=0-", 0).outcome == Outcome::none);
  for (const std::string_view other : {"", "bytes", "bytes=", "bytes=,", "lines=1-2", "bytes=3-2", "bytes=a-b",
                                       "bytes=-", "bytes=1-2-3", "bytes=0-9,0-9", "bytes=1 -2", "bytes=+1-2"}) {
    CAPTURE(other);
    CHECK(parse_ranges(other, 10).outcome == Outcome::whole);
  }
  std::string many = "bytes=0-0";
  for (int i = 1; i < 100; ++i) many += "," + std::to_string(i) + "-" + std::to_string(i);
  CHECK(parse_ranges(many, 1000).outcome == Outcome::whole);
}

TEST_CASE("content codings") {
  CHECK(coding_weight("gzip, br;q=0.5", "gzip") == 1000);
  CHECK(coding_weight("gzip, br;q=0.5", "br") == 500);
  CHECK(coding_weight("gzip, br;q=0.5", "zstd") == 0);
  CHECK(coding_weight("*;q=0.1, GZIP;q=0", "gzip") == 0);
  CHECK(coding_weight("*;q=0.1, gzip;q=0", "br") == 100);
  CHECK(coding_weight("", "identity") == 1000);
  CHECK(coding_weight("identity;q=0", "identity") == 0);
  CHECK(identity_weight("gzip, *;q=0.5") == 0);
  CHECK(identity_weight("gzip, Identity;q=0.5") == 500);
  CHECK(coding_weight("gzip;q=2, br;q=x, zstd;q=0.1234", "gzip") == 0);
  CHECK(coding_weight("br;q=x", "br") == 0);
  CHECK(coding_weight(",, gzip ; x=y ; Q=0.25 ,", "gzip") == 250);
}

TEST_CASE("negotiation") {
  constexpr std::array<std::string_view, 3> kTypes = {"text/html", "application/json", "image/png"};
  CHECK(choose_media_type("application/json", kTypes) == 1);
  CHECK(choose_media_type("text/*;q=0.5, application/*", kTypes) == 1);
  CHECK(choose_media_type("*/*", kTypes) == 0);
  CHECK(choose_media_type("", kTypes) == 0);
  CHECK(choose_media_type("text/html;q=0, */*;q=0.1", kTypes) == 1);
  CHECK(choose_media_type("audio/ogg", kTypes) == std::nullopt);
  CHECK(choose_media_type("text/html;level=1;q=0.3, image/png;q=0.4", kTypes) == 2);
  constexpr std::array<std::string_view, 3> kLanguages = {"de", "en-GB", "en"};
  CHECK(choose_language("en-gb", kLanguages) == 1);
  CHECK(choose_language("en", kLanguages) == 1);
  CHECK(choose_language("fr, *;q=0.1", kLanguages) == 0);
  CHECK(choose_language("e", kLanguages) == std::nullopt);
}

TEST_CASE("media types") {
  CHECK(media_type_of("a/b.HTML") == "text/html; charset=utf-8");
  CHECK(media_type_of("x.tar.gz") == "application/gzip");
  CHECK(media_type_of("a.b/c") == "application/octet-stream");
  CHECK(media_type_of(".html") == "text/html; charset=utf-8");
  CHECK(media_type_of("x.averyveryverylongextension") == "application/octet-stream");
  CHECK(is_compressible("text/css; charset=utf-8"));
  CHECK(is_compressible("image/svg+xml"));
  CHECK(is_compressible("application/json"));
  CHECK(!is_compressible("image/png"));
  CHECK(!is_compressible("application/zip"));
}

}  // namespace
}  // namespace evlua::http
