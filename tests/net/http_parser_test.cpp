// The request parser against a table of heads, each with the rule it is about: what is accepted, and with which status
// the rest is refused. Every head is also cut at every byte: the outcome must not depend on how it arrives.
#include "net/http/parser.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/http/chunked.h"
#include "net/http/syntax.h"
#include "tests/support/doctest.h"

using namespace evlua::http;
using namespace std::string_literals;

namespace {

constexpr int kAccepted = 0;
constexpr int kIncomplete = 1;

struct Case {
  std::string rule;
  std::string head;
  int status;  ///< kAccepted, kIncomplete, or what it is refused with
};

std::string request(const std::string& fields) { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"; }
std::string request_line(const std::string& line) { return line + "\r\nHost: a\r\n\r\n"; }
std::string request_host(const std::string& host) { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"; }

int parse_whole(RequestParser& parser, std::string_view head, const Limits& limits = {}) {
  switch (parser.parse(head, limits)) {
    case RequestParser::Outcome::complete: return kAccepted;
    case RequestParser::Outcome::incomplete: return kIncomplete;
    case RequestParser::Outcome::refused: break;
  }
  return parser.refusal();
}

int parse_in_two(std::string_view head, std::size_t cut, const Limits& limits = {}) {
  RequestParser parser;
  const int first = parse_whole(parser, head.substr(0, cut), limits);
  if (first != kIncomplete) return first;
  const std::string moved(head);  // the bytes may be elsewhere by the second call
  return parse_whole(parser, moved, limits);
}

int parse_bytewise(std::string_view head, const Limits& limits = {}) {
  RequestParser parser;
  int status = kIncomplete;
  for (std::size_t size = 1; size <= head.size() && status == kIncomplete; ++size) {
    const std::string moved(head.substr(0, size));
    status = parse_whole(parser, moved, limits);
  }
  return status;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      // -- the request line: RFC 9112 3 --
      {"9112 3: plain", request_line("GET / HTTP/1.1"), kAccepted},
      {"9112 3: HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", kAccepted},
      {"9112 3: HTTP/1.0 with Host", request_line("GET / HTTP/1.0"), kAccepted},
      {"9112 2.2: one empty line before", "\r\n" + request_line("GET / HTTP/1.1"), kAccepted},
      {"9112 2.2: four empty lines before", "\r\n\r\n\r\n\r\n" + request_line("GET / HTTP/1.1"), kAccepted},
      {"9112 2.2: too many empty lines", "\r\n\r\n\r\n\r\n\r\n" + request_line("GET / HTTP/1.1"), 400},
      {"9112 2.2: bare LF before", "\n" + request_line("GET / HTTP/1.1"), 400},
      {"9112 2.2: bare CR before", "\r" + request_line("GET / HTTP/1.1"), 400},
      {"9112 3: leading space", request_line(" GET / HTTP/1.1"), 400},
      {"9112 3: leading tab", request_line("\tGET / HTTP/1.1"), 400},
      {"9112 3: two spaces before the target", request_line("GET  / HTTP/1.1"), 400},
      {"9112 3: two spaces before the version", request_line("GET /  HTTP/1.1"), 400},
      {"9112 3: tab before the target", request_line("GET\t/ HTTP/1.1"), 400},
      {"9112 3: tab before the version", request_line("GET /\tHTTP/1.1"), 400},
      {"9112 3: trailing space", request_line("GET / HTTP/1.1 "), 400},
      {"9112 3: trailing tab", request_line("GET / HTTP/1.1\t"), 400},
      {"9112 3: trailing word", request_line("GET / HTTP/1.1 x"), 400},
      {"9112 3: no target", request_line("GET HTTP/1.1"), 400},
      {"9112 3: empty target", request_line("GET  HTTP/1.1"), 400},
      {"9112 3: method alone", request_line("GET"), 400},
      {"9112 3: empty line of spaces", request_line("   "), 400},
      {"1945: HTTP/0.9", "GET /\r\n", 400},
      {"9112 2.2: request line ends with LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"9112 2.2: request line ends with CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400},
      {"9112 2.2: request line ends with CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400},
      {"9112 2.2: vertical tab in the request line", request_line("GET /\v HTTP/1.1"), 400},
      {"8446: a TLS client hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s, 400},
      {"9113 3.4: the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      // -- methods: RFC 9110 9 --
      {"9110 9.3.2: HEAD", request_line("HEAD / HTTP/1.1"), kAccepted},
      {"9110 9.3.3: POST", request_line("POST / HTTP/1.1"), kAccepted},
      {"9110 9.3.4: PUT", request_line("PUT / HTTP/1.1"), kAccepted},
      {"9110 9.3.5: DELETE", request_line("DELETE / HTTP/1.1"), kAccepted},
      {"9110 9.3.7: OPTIONS", request_line("OPTIONS / HTTP/1.1"), kAccepted},
      {"9110 9.3.8: TRACE", request_line("TRACE / HTTP/1.1"), kAccepted},
      {"5789: PATCH", request_line("PATCH / HTTP/1.1"), kAccepted},
      {"4918: PROPFIND", request_line("PROPFIND / HTTP/1.1"), kAccepted},
      {"9110 9.3.6: CONNECT", request_line("CONNECT a:80 HTTP/1.1"), 501},
      {"9110 9.1: unknown", request_line("FOO / HTTP/1.1"), 501},
      {"9110 9.1: case matters", request_line("get / HTTP/1.1"), 501},
      {"9110 9.1: a known one with more", request_line("GETX / HTTP/1.1"), 501},
      {"9110 9.1: a known one with less", request_line("GE / HTTP/1.1"), 501},
      {"9110 9.1: every kind of token byte", request_line("M-S!#$%&'*+.^_`|~9 / HTTP/1.1"), 501},
      {"2326: an RTSP method", request_line("DESCRIBE / HTTP/1.1"), 501},
      {"9110 5.6.2: a method with a colon", request_line("GE:T / HTTP/1.1"), 400},
      {"9110 5.6.2: a method with NUL", request_line("GE\0T / HTTP/1.1"s), 400},
      {"9110 5.6.2: a method in UTF-8", request_line("G\xc3\x89T / HTTP/1.1"), 400},
      {"9110 5.6.2: a method with a parenthesis", request_line("(GET) / HTTP/1.1"), 400},
      {"9110 5.6.2: a field line in place of the request line", "Host: a\r\n\r\n", 400},
      // -- versions: RFC 9112 2.3 --
      {"9110 2.5: 1.2 is taken for 1.1", request_line("GET / HTTP/1.2"), kAccepted},
      {"9110 2.5: 1.9 is taken for 1.1", request_line("GET / HTTP/1.9"), kAccepted},
      {"9112 3.2: 1.2 needs a Host", "GET / HTTP/1.2\r\n\r\n", 400},
      {"9110 9.1: an unknown method with 1.2", request_line("FOO / HTTP/1.2"), 501},
      {"9112 2.3: 2.0", request_line("GET / HTTP/2.0"), 505},
      {"9112 2.3: 0.9", request_line("GET / HTTP/0.9"), 505},
      {"9112 2.3: 9.9", request_line("GET / HTTP/9.9"), 505},
      {"9112 2.3: lower case", request_line("GET / http/1.1"), 400},
      {"9112 2.3: one digit", request_line("GET / HTTP/1"), 400},
      {"9112 2.3: two digits", request_line("GET / HTTP/1.10"), 400},
      {"9112 2.3: 11.1", request_line("GET / HTTP/11.1"), 400},
      {"9112 2.3: comma", request_line("GET / HTTP/1,1"), 400},
      {"9112 2.3: letters", request_line("GET / HTTP/a.b"), 400},
      {"9112 2.3: sign", request_line("GET / HTTP/+1.1"), 400},
      {"9112 2.3: another protocol", request_line("GET / HTTX/1.1"), 400},
      // -- targets: RFC 9112 3.2 --
      {"9112 3.2.1: path and query", request_line("GET /a/b?c=d&e=%20f HTTP/1.1"), kAccepted},
      {"9112 3.2.1: percent-encoded NUL is the handler's business", request_line("GET /%00 HTTP/1.1"), kAccepted},
      {"9112 3.2.1: double slash", request_line("GET //a HTTP/1.1"), kAccepted},
      {"9112 3.2.1: punctuation", request_line("GET /-._~!$&'()*+,;=:@ HTTP/1.1"), kAccepted},
      {"9112 3.2.1: second question mark", request_line("GET /?a?b HTTP/1.1"), kAccepted},
      {"9112 3.2.2: absolute form", request_line("GET http://a/x HTTP/1.1"), kAccepted},
      {"9112 3.2.2: absolute form, https", "GET HTTPS://b:8443/x HTTP/1.1\r\nHost: b:8443\r\n\r\n", kAccepted},
      {"9112 3.2.2: absolute form without path", request_line("GET http://a HTTP/1.1"), kAccepted},
      {"9112 3.2.2: absolute form, IPv6", "GET http://[::1]:81/ HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", kAccepted},
      {"9112 3.2: absolute form, Host in capitals", "GET http://ab/ HTTP/1.1\r\nHost: AB\r\n\r\n", kAccepted},
      {"9112 3.2: absolute form, default port", request_line("GET http://a:80/ HTTP/1.1"), kAccepted},
      {"9112 3.2: absolute form, default port of https", request_line("GET https://a:443/ HTTP/1.1"), kAccepted},
      {"9112 3.2: absolute form, empty port", request_line("GET http://a:/ HTTP/1.1"), kAccepted},
      {"9112 3.2: absolute form, another Host", request_line("GET http://b/x HTTP/1.1"), 400},
      {"9112 3.2: absolute form, another port", request_line("GET http://a:443/x HTTP/1.1"), 400},
      {"9112 3.2: absolute form, 1.0 without Host", "GET http://b/x HTTP/1.0\r\n\r\n", kAccepted},
      {"9110 4.2.1: no host in the target", request_line("GET http:///x HTTP/1.1"), 400},
      {"9110 4.2.4: userinfo in the target", request_line("GET http://u:p@b/x HTTP/1.1"), 400},
      {"9110 4.2: another scheme", request_line("GET ftp://b/x HTTP/1.1"), 400},
      {"9112 3.2.4: asterisk", request_line("OPTIONS * HTTP/1.1"), kAccepted},
      {"9112 3.2.4: asterisk with GET", request_line("GET * HTTP/1.1"), 400},
      {"9112 3.2.4: asterisk and more", request_line("OPTIONS *a HTTP/1.1"), 400},
      {"9112 3.2.1: no leading slash", request_line("GET a HTTP/1.1"), 400},
      {"9112 3.2.3: authority form with GET", request_line("GET a:80 HTTP/1.1"), 400},
      {"3986 4.1: a fragment", request_line("GET /a#b HTTP/1.1"), 400},
      {"3986 2: non-ASCII", request_line("GET /\xc3\xa9 HTTP/1.1"), 400},
      {"3986 2: NUL", request_line("GET /a\0b HTTP/1.1"s), 400},
      {"3986 2: DEL", request_line("GET /\x7f HTTP/1.1"), 400},
      {"3986 2: a space", request_line("GET /a b HTTP/1.1"), 400},
      // -- field lines: RFC 9112 5 --
      {"9112 5: no blank after the colon", request("X:y\r\n"), kAccepted},
      {"9112 5: blanks around the value", request("X: \t y \t \r\n"), kAccepted},
      {"9112 5: empty value", request("X:\r\n"), kAccepted},
      {"9112 5: blank value", request("X:   \r\n"), kAccepted},
      {"9112 5: a colon in the value", request("X: a:b\r\n"), kAccepted},
      {"9110 5.5: obs-text in the value", request("X: caf\xe9\r\n"), kAccepted},
      {"9110 5.6.2: every kind of token byte", request("M-S!#$%&'*+.^_`|~9: a\r\n"), kAccepted},
      {"9110 5.3: a repeated field", request("X: a\r\nX: b\r\n"), kAccepted},
      {"9112 5.1: space before the colon", request("X : y\r\n"), 400},
      {"9112 5.1: tab before the colon", request("X\t: y\r\n"), 400},
      {"9112 5.1: space in the name", request("X Y: z\r\n"), 400},
      {"9112 5: no colon", request("X\r\n"), 400},
      {"9112 5: empty name", request(": y\r\n"), 400},
      {"9112 2.2: space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"9112 2.2: tab before the first field", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", 400},
      {"9112 5.2: folded with a space", request("X: a\r\n b\r\n"), 400},
      {"9112 5.2: folded with a tab", request("X: a\r\n\tb\r\n"), 400},
      {"9112 5.2: folded, empty first line", request("X:\r\n b\r\n"), 400},
      {"9112 5.2: folded framing", request("Transfer-Encoding:\r\n chunked\r\n"), 400},
      {"9112 2.2: field ends with LF", request("X: y\nZ: w\r\n"), 400},
      {"9112 2.2: field ends with CR", request("X: y\rZ: w\r\n"), 400},
      {"9112 2.2: field ends with CR CR LF", request("X: y\r\r\n"), 400},
      {"9112 2.2: head ends with LF", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
      {"9112 2.2: head ends with LF LF", "GET / HTTP/1.1\r\nHost: a\n\n", 400},
      {"9112 2.2: head ends with CR CR", "GET / HTTP/1.1\r\nHost: a\r\n\rX", 400},
      {"9110 5.5: NUL in a value", request("X: a\0b\r\n"s), 400},
      {"9110 5.5: NUL in a name", request("X\0Y: a\r\n"s), 400},
      {"9110 5.5: DEL in a value", request("X: a\x7f\r\n"), 400},
      {"9110 5.5: escape in a value", request("X: a\x1b[2J\r\n"), 400},
      {"9110 5.6.2: non-ASCII in a name", request("X\xe9: a\r\n"), 400},
      {"9110 5.6.2: a parenthesis in a name", request("X(: a\r\n"), 400},
      {"9110 5.6.2: a slash in a name", request("X/Y: a\r\n"), 400},
      // -- Host: RFC 9112 3.2, RFC 9110 7.2 --
      {"9112 3.2: no Host in 1.1", "GET / HTTP/1.1\r\n\r\n", 400},
      {"9112 3.2: no Host in 1.1, absolute form", "GET http://a/ HTTP/1.1\r\n\r\n", 400},
      {"9112 3.2: two Hosts", request("Host: b\r\n"), 400},
      {"9112 3.2: two equal Hosts", request("host: a\r\n"), 400},
      {"9112 3.2: two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"9110 4.2.1: empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"9110 4.2.1: empty Host, OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: \r\n\r\n", 400},
      {"9110 4.2.1: empty Host, HTTP/1.0", "GET / HTTP/1.0\r\nHost:\r\n\r\n", 400},
      {"9112 3.2: empty Host, absolute form", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"9110 7.2: name and port", request_host("example.org:8080"), kAccepted},
      {"9110 7.2: IPv4", request_host("127.0.0.1:1"), kAccepted},
      {"9110 7.2: IPv6", request_host("[::1]"), kAccepted},
      {"9110 7.2: IPv6 and port", request_host("[2001:db8::1]:443"), kAccepted},
      {"9110 7.2: underscore", request_host("my_host"), kAccepted},
      {"9110 7.2: percent-encoded", request_host("a%2db"), kAccepted},
      {"9110 7.2: empty port", request_host("a:"), kAccepted},
      {"9110 7.2: comma", request_host("a,b"), 400},
      {"9110 7.2: space", request_host("a b"), 400},
      {"9110 7.2: slash", request_host("a/b"), 400},
      {"9110 7.2: userinfo", request_host("u@a"), 400},
      {"9110 7.2: scheme", request_host("http://a"), 400},
      {"9110 7.2: port in letters", request_host("a:b"), 400},
      {"9110 7.2: port too long", request_host("a:123456"), 400},
      {"9110 7.2: port alone", request_host(":80"), 400},
      {"9110 7.2: open bracket", request_host("[::1"), 400},
      {"9110 7.2: after the bracket", request_host("[::1]x"), 400},
      {"9110 7.2: largest port", request_host("a:65535"), kAccepted},
      {"9110 7.2: port beyond it", request_host("a:65536"), 400},
      {"9110 7.2: colons in brackets", request_host("[:::]"), 400},
      {"9110 7.2: IPv4 in brackets", request_host("[1.2.3.4]"), 400},
      {"9110 7.2: IPv6 with an IPv4 part", request_host("[::ffff:1.2.3.4]"), kAccepted},
      {"9110 7.2: far too long in brackets", request_host("[" + std::string(200, ':') + "]"), 400},
      {"9110 7.2: letters in brackets", request_host("[evil.example]"), 400},
      {"9110 7.2: broken percent-encoding", request_host("a%2"), 400},
      {"9110 7.2: question mark", request_host("a?b"), 400},
      {"9110 7.2: hash", request_host("a#b"), 400},
      {"9110 7.2: backslash", request_host("a\\b"), 400},
      {"9110 7.2: non-ASCII", request_host("\xc3\xa9"), 400},
      // -- Content-Length: RFC 9112 6.2, 6.3 --
      {"9110 8.6: zero", request("Content-Length: 0\r\n"), kAccepted},
      {"9110 8.6: a number", request("Content-Length: 12345\r\n"), kAccepted},
      {"9110 8.6: blanks around", request("Content-Length:  5 \r\n"), kAccepted},
      {"9112 11.2: tab before", request("Content-Length:\t5\r\n"), 400},
      {"9112 11.2: tab behind", request("Content-Length: 5\t\r\n"), 400},
      {"9110 8.6: eighteen digits", request("Content-Length: 999999999999999999\r\n"), kAccepted},
      {"9112 6.3: nineteen digits", request("Content-Length: 1999999999999999999\r\n"), 400},
      {"9112 6.3: overflow", request("Content-Length: 18446744073709551616\r\n"), 400},
      {"9112 6.3: empty", request("Content-Length:\r\n"), 400},
      {"9112 6.3: blank", request("Content-Length:  \r\n"), 400},
      {"9112 6.3: plus", request("Content-Length: +5\r\n"), 400},
      {"9112 6.3: minus", request("Content-Length: -5\r\n"), 400},
      {"9112 6.3: minus zero", request("Content-Length: -0\r\n"), 400},
      {"9112 6.3: hexadecimal", request("Content-Length: 0x5\r\n"), 400},
      {"9112 6.3: underscore", request("Content-Length: 5_0\r\n"), 400},
      {"9112 6.3: fraction", request("Content-Length: 5.0\r\n"), 400},
      {"9112 6.3: exponent", request("Content-Length: 5e1\r\n"), 400},
      {"9112 6.3: leading zero", request("Content-Length: 05\r\n"), 400},
      {"9112 6.3: inner space", request("Content-Length: 1 2\r\n"), 400},
      {"9112 6.3: list", request("Content-Length: 5, 6\r\n"), 400},
      {"9112 6.3: list of equals", request("Content-Length: 5, 5\r\n"), 400},
      {"9112 6.3: comma", request("Content-Length: 5,\r\n"), 400},
      {"9112 6.3: two fields", request("Content-Length: 5\r\nContent-Length: 6\r\n"), 400},
      {"9112 6.3: two equal fields", request("Content-Length: 5\r\ncontent-length: 5\r\n"), 400},
      {"9112 6.3: with a letter", request("Content-Length: 5a\r\n"), 400},
      {"9112 6.3: quoted", request("Content-Length: \"5\"\r\n"), 400},
      // -- Transfer-Encoding: RFC 9112 6.1, 6.3 --
      {"9112 6.1: chunked", request("Transfer-Encoding: chunked\r\n"), kAccepted},
      {"9112 7: chunked in capitals", request("transfer-encoding: CHUNKED\r\n"), kAccepted},
      {"9112 6.3: Content-Length, then Transfer-Encoding",
       request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"9112 6.3: Transfer-Encoding, then Content-Length",
       request("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400},
      {"9112 6.3: Content-Length: 0 and Transfer-Encoding",
       request("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"9112 6.1: in HTTP/1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"9112 6.1: identity", request("Transfer-Encoding: identity\r\n"), 400},
      {"9112 6.1: empty", request("Transfer-Encoding:\r\n"), 400},
      {"9112 6.1: xchunked", request("Transfer-Encoding: xchunked\r\n"), 400},
      {"9112 6.1: chunkedx", request("Transfer-Encoding: chunkedx\r\n"), 400},
      {"9112 6.1: chunked with a parameter", request("Transfer-Encoding: chunked;a=b\r\n"), 400},
      {"9112 6.1: quoted", request("Transfer-Encoding: \"chunked\"\r\n"), 400},
      {"9112 6.1: gzip, chunked", request("Transfer-Encoding: gzip, chunked\r\n"), 501},
      {"9112 6.1: deflate, gzip, chunked", request("Transfer-Encoding: deflate,gzip , CHUNKED\r\n"), 501},
      {"9112 6.3: gzip, chunked, chunked", request("Transfer-Encoding: gzip, chunked, chunked\r\n"), 400},
      {"9112 6.3: an empty element", request("Transfer-Encoding: gzip,, chunked\r\n"), 400},
      {"9112 11.2: tab before", request("Transfer-Encoding:\tchunked\r\n"), 400},
      {"9112 11.2: tab behind", request("Transfer-Encoding: chunked\t\r\n"), 400},
      {"9112 6.1: chunked, gzip", request("Transfer-Encoding: chunked, gzip\r\n"), 400},
      {"9112 6.1: chunked twice in a list", request("Transfer-Encoding: chunked, chunked\r\n"), 400},
      {"9112 6.1: chunked twice in fields", request("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
       400},
      {"9112 6.1: identity, then chunked in another field",
       request("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"9112 6.1: a comma before", request("Transfer-Encoding: ,chunked\r\n"), 400},
      {"9112 6.1: vertical tab before", request("Transfer-Encoding: \vchunked\r\n"), 400},
      {"9112 6.1: space before the colon", request("Transfer-Encoding : chunked\r\n"), 400},
      {"9112 6.1: NUL in the value", request("Transfer-Encoding: chunked\0\r\n"s), 400},
      {"9110 9.3.8: TRACE with a body", "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 400},
      {"9110 9.3.8: TRACE with chunks", "TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      // -- Connection, Expect --
      {"9110 7.6.1: several options", request("Connection: keep-alive, Upgrade\r\nUpgrade: x\r\n"), kAccepted},
      {"9110 10.1.1: 100-continue", request("Expect: 100-Continue\r\nContent-Length: 1\r\n"), kAccepted},
      {"9110 10.1.1: another expectation", request("Expect: a-miracle\r\n"), 417},
      {"9110 10.1.1: ignored in HTTP/1.0", "GET / HTTP/1.0\r\nExpect: a-miracle\r\n\r\n", kAccepted},
      // -- not yet there --
      {"incomplete: nothing of the fields", "GET / HTTP/1.1\r\n", kIncomplete},
      {"incomplete: half a field", "GET / HTTP/1.1\r\nHos", kIncomplete},
      {"incomplete: the last LF", "GET / HTTP/1.1\r\nHost: a\r\n\r", kIncomplete},
  };
  return table;
}

}  // namespace

TEST_CASE("heads are accepted and refused by the rules of the RFCs") {
  CHECK(cases().size() >= 120);
  for (const Case& entry : cases()) {
    CAPTURE(entry.rule);
    RequestParser parser;
    CHECK(parse_whole(parser, entry.head) == entry.status);
  }
}

TEST_CASE("a head gives the same outcome however it is cut") {
  for (const Case& entry : cases()) {
    CAPTURE(entry.rule);
    CHECK(parse_bytewise(entry.head) == entry.status);
    for (std::size_t cut = 0; cut <= entry.head.size(); ++cut) {
      CAPTURE(cut);
      CHECK(parse_in_two(entry.head, cut) == entry.status);
    }
  }
}

TEST_CASE("bytes behind the head are not looked at") {
  const std::string head = request("X: y\r\n");
  RequestParser parser;
  CHECK(parse_whole(parser, head + "\x01\n\n garbage") == kAccepted);
  CHECK(parser.head_bytes() == head.size());
}

TEST_CASE("a byte anywhere in a name, a value, a target or a length is accepted only if its class allows it") {
  for (int value = 0; value < 256; ++value) {
    CAPTURE(value);
    const char byte = static_cast<char>(value);
    const bool visible = value > 0x20 && value < 0x7f;
    RequestParser name, field, target, length;
    CHECK(parse_whole(name, request("X"s + byte + "Y: z\r\n")) ==
          (is_token_byte(byte) || byte == ':' ? kAccepted : 400));
    const bool in_value = value == '\t' || (value >= 0x20 && value != 0x7f);
    CHECK(parse_whole(field, request("X: a"s + byte + "b\r\n")) == (in_value ? kAccepted : 400));
    CHECK(parse_whole(target, request_line("GET /a"s + byte + "b HTTP/1.1")) ==
          (visible && byte != '#' ? kAccepted : 400));
    CHECK(parse_whole(length, request("Content-Length: 1"s + byte + "2\r\n")) == (is_digit(byte) ? kAccepted : 400));
  }
}

TEST_CASE("what a head says can be looked up") {
  const std::string head =
      "\r\nPOST /a/b?c=d?e HTTP/1.1\r\nHOST:  example.org:80 \r\nX-Empty:\r\nx-one: 1\r\nX-One: 2\r\n"
      "Content-Length: 7\r\nConnection: foo , Close\r\n\r\n";
  for (std::size_t cut = 0; cut < head.size(); ++cut) {
    CAPTURE(cut);
    RequestParser parser;
    const Limits limits;
    const std::string first = head.substr(0, cut);
    CHECK(parser.parse(first, limits) == RequestParser::Outcome::incomplete);
    REQUIRE(parser.parse(head, limits) == RequestParser::Outcome::complete);
    CHECK(parser.head_bytes() == head.size());
    CHECK(parser.method(head) == "POST");
    CHECK_FALSE(parser.is_head());
    CHECK(parser.target(head) == "/a/b?c=d?e");
    CHECK(parser.path(head) == "/a/b");
    CHECK(parser.query(head) == "c=d?e");
    CHECK(parser.host(head) == "example.org:80");
    CHECK(parser.version_minor() == 1);
    CHECK(parser.field_count() == 6);
    CHECK(parser.field(head, 0).name == "HOST");
    CHECK(parser.field(head, 0).value == "example.org:80");
    CHECK(parser.find(head, "X-ONE") == std::optional<std::string_view>("1"));
    CHECK(parser.find(head, "x-empty") == std::optional<std::string_view>(""));
    CHECK(parser.find(head, "x-none") == std::nullopt);
    CHECK(parser.body_kind() == BodyKind::length);
    CHECK(parser.content_length() == 7);
    CHECK_FALSE(parser.keep_alive());
  }
}

TEST_CASE("an absolute target names the host") {
  const std::string head = "GET http://b:81?q HTTP/1.1\r\nHost: b:81\r\n\r\n";
  RequestParser parser;
  REQUIRE(parse_whole(parser, head) == kAccepted);
  CHECK(parser.host(head) == "b:81");
  CHECK(parser.path(head) == "/");
  CHECK(parser.query(head) == "q");
}

TEST_CASE("a connection persists as version and options say") {
  const std::vector<std::pair<std::string, bool>> expected = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: a,CLOSE,b\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: a\r\nConnection: close\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
      {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false},
      {"GET / HTTP/1.0\r\n\r\n", false},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
      {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
  };
  for (const auto& [raw, persists] : expected) {
    const std::string& head = raw;
    CAPTURE(head);
    RequestParser parser;
    REQUIRE(parse_whole(parser, head) == kAccepted);
    CHECK(parser.keep_alive() == persists);
  }
}

TEST_CASE("a parser can be used again after reset") {
  RequestParser parser;
  const std::string post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
  const std::string get = "GET /y HTTP/1.0\r\n\r\n";
  for (int round = 0; round < 3; ++round) {
    REQUIRE(parse_whole(parser, post) == kAccepted);
    CHECK(parser.content_length() == 3);
    parser.reset();
    REQUIRE(parse_whole(parser, get) == kAccepted);
    CHECK(parser.path(get) == "/y");
    CHECK(parser.field_count() == 0);
    CHECK(parser.body_kind() == BodyKind::none);
    parser.reset();
    CHECK(parse_whole(parser, "BAD /\r\n\r\n") == 400);
    parser.reset();
  }
}

TEST_CASE("limits are kept to the byte") {
  Limits limits;
  limits.request_line_bytes = 100;
  limits.header_block_bytes = 200;
  limits.header_fields = 4;
  const auto line_of = [](std::size_t bytes) {
    return request_line("GET /" + std::string(bytes - 14, 'a') + " HTTP/1.1");
  };
  const auto block_of = [](std::size_t bytes) {  // "Host: a\r\n" are 9 bytes, "X: " and CRLF are 5
    return request("X: " + std::string(bytes - 14, 'y') + "\r\n");
  };
  const auto fields_of = [](int count) {
    std::string fields;
    for (int index = 1; index < count; ++index) fields += "X: y\r\n";
    return request(fields);
  };
  const std::vector<std::pair<std::string, int>> expected = {
      {line_of(100), kAccepted},  {line_of(101), 414},  {line_of(100'000), 414},
      {block_of(200), kAccepted}, {block_of(201), 431}, {block_of(300'000), 431},
      {fields_of(4), kAccepted},  {fields_of(5), 431},  {fields_of(1000), 431},
  };
  for (const auto& [raw, status] : expected) {
    const std::string& head = raw;
    CAPTURE(head.size());
    RequestParser parser;
    CHECK(parse_whole(parser, head, limits) == status);
    for (std::size_t cut = 0; cut < std::min<std::size_t>(head.size(), 400); ++cut) {
      CAPTURE(cut);
      CHECK(parse_in_two(head, cut, limits) == status);
    }
  }
}

TEST_CASE("a head without an end is refused before it fills the memory") {
  const Limits limits;
  RequestParser line;
  CHECK(parse_whole(line, "GET /" + std::string(8192, 'a'), limits) == 414);
  RequestParser method;
  CHECK(parse_whole(method, std::string(8193, 'A'), limits) == 501);
  method.reset();
  CHECK(parse_whole(method, std::string(9000, 'A') + " / HTTP/1.1\r\n", limits) == 501);
  RequestParser block;
  CHECK(parse_whole(block, "GET / HTTP/1.1\r\nX: " + std::string(40'000, 'a'), limits) == 431);
  Limits generous;
  generous.header_block_bytes = kHeadBytesMax;
  RequestParser huge;
  CHECK(parse_whole(huge, "GET / HTTP/1.1\r\nX: " + std::string(200'000, 'a'), generous) == 431);
}

// -- chunked bodies: RFC 9112 7.1 -------------------------------------------------------------------------------------

namespace {

struct ChunkedCase {
  std::string rule;
  std::string bytes;
  const char* body;  ///< null: invalid
  std::string left;  ///< not consumed
};

struct Decoded {
  ChunkedDecoder::Outcome outcome = ChunkedDecoder::Outcome::more;
  std::string body;
  std::string left;
};

/// Feeds `bytes` in pieces of `step` bytes.
Decoded decode(const std::string& bytes, std::size_t step, std::size_t piece_bytes, const Limits& limits = {}) {
  ChunkedDecoder decoder;
  Decoded result;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::string part = bytes.substr(at, step);
    std::string_view input = part;
    std::string_view piece;
    while ((result.outcome = decoder.decode(input, piece_bytes, limits, piece)) == ChunkedDecoder::Outcome::data) {
      CHECK(piece.size() <= piece_bytes);
      CHECK_FALSE(piece.empty());
      result.body += piece;
    }
    at += part.size() - input.size();
    if (result.outcome != ChunkedDecoder::Outcome::more) break;
  }
  result.left = bytes.substr(at);
  return result;
}

const std::vector<ChunkedCase>& chunked_cases() {
  static const std::vector<ChunkedCase> table = {
      {"empty body", "0\r\n\r\n", "", ""},
      {"one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"two chunks and what follows", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET", "hello world", "GET"},
      {"hexadecimal, both cases", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""},
      {"leading zeros", "0005\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"zeros as the last size", "000\r\n\r\n", "", ""},
      {"CRLF within data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", ""},
      {"extension", "5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello", ""},
      {"extension with value", "5;a=b;c=d\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"quoted extension", "5;a=\"x;\\\"y \"\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"trailer", "0\r\nX: y\r\n\r\n", "", ""},
      {"trailers", "0\r\nX: y\r\nContent-Length: 5\r\n\r\nrest", "", "rest"},
      {"empty size", "\r\n\r\n", nullptr, ""},
      {"no digits", "g\r\n", nullptr, ""},
      {"sign", "+5\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"minus", "-5\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"prefix", "0x5\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"underscore", "5_0\r\n", nullptr, ""},
      {"leading space", " 5\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"trailing space", "5 \r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"space before an extension", "5 ;a\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"overflow", "1ffffffffffffffff\r\n", nullptr, ""},
      {"bare LF after the size", "5\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"bare CR after the size", "5\rhello\r\n0\r\n\r\n", nullptr, ""},
      {"bare LF after an extension", "5;a\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"LF in an extension value", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"s, nullptr, ""},
      {"empty quoted extension", "5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", ""},
      {"extension without a name", "5;=b\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"extension without a value", "5;a=\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"extension with two values", "5;a=b=c\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"extension that goes on behind quotes", "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"extension with quotes in its value", "5;a=b\"c\"\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"semicolon at the end", "5;a;\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"bare semicolon", "5;\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"two semicolons", "5;;a\r\nhello\r\n0\r\n\r\n", nullptr, ""},
      {"bare LF after data", "5\r\nhello\n0\r\n\r\n", nullptr, ""},
      {"bare CR after data", "5\r\nhello\r0\r\n\r\n", nullptr, ""},
      {"data too long", "5\r\nhello!\r\n0\r\n\r\n", nullptr, ""},
      {"data too short", "5\r\nhell\r\n0\r\n\r\n", nullptr, ""},
      {"no CRLF after data", "5\r\nhello0\r\n\r\n", nullptr, ""},
      {"bare LF at the end", "0\r\n\n", nullptr, ""},
      {"CR and something at the end", "0\r\n\rX", nullptr, ""},
      {"trailer without colon", "0\r\nX\r\n\r\n", nullptr, ""},
      {"trailer with a space in its name", "0\r\nX : y\r\n\r\n", nullptr, ""},
      {"folded trailer", "0\r\nX: y\r\n z\r\n\r\n", nullptr, ""},
      {"bare LF after a trailer", "0\r\nX: y\n\r\n", nullptr, ""},
      {"NUL in a trailer", "0\r\nX: \0\r\n\r\n"s, nullptr, ""},
  };
  return table;
}

}  // namespace

TEST_CASE("chunked bodies are decoded or refused, however they are cut") {
  for (const ChunkedCase& entry : chunked_cases()) {
    CAPTURE(entry.rule);
    for (std::size_t step = 1; step <= entry.bytes.size(); ++step) {
      for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, SIZE_MAX}) {
        CAPTURE(step);
        CAPTURE(piece);
        const Decoded decoded = decode(entry.bytes, step, piece);
        if (entry.body == nullptr) {
          CHECK(decoded.outcome == ChunkedDecoder::Outcome::invalid);
        } else {
          CHECK(decoded.outcome == ChunkedDecoder::Outcome::end);
          CHECK(decoded.body == entry.body);
          CHECK(decoded.left == entry.left);
        }
      }
    }
  }
}

TEST_CASE("the largest chunk size does not overflow") {
  const Decoded decoded = decode("ffffffffffffffff\r\nabc", 100, SIZE_MAX);
  CHECK(decoded.outcome == ChunkedDecoder::Outcome::more);
  CHECK(decoded.body == "abc");
}

TEST_CASE("chunk extensions and trailers are bounded") {
  const Limits limits;
  const auto extension = [](std::size_t bytes) { return "1;" + std::string(bytes, 'a') + "\r\nx\r\n"; };
  // The CR that ends an extension counts with it.
  CHECK(decode(extension(4095) + "0\r\n\r\n", 1000, SIZE_MAX, limits).outcome == ChunkedDecoder::Outcome::end);
  CHECK(decode(extension(4096) + "0\r\n\r\n", 1000, SIZE_MAX, limits).outcome == ChunkedDecoder::Outcome::invalid);
  // Many small ones count together.
  std::string many;
  for (int index = 0; index < 3000; ++index) many += extension(1);
  CHECK(decode(many + "0\r\n\r\n", 1000, SIZE_MAX, limits).outcome == ChunkedDecoder::Outcome::invalid);
  const std::string trailer = "0\r\nX: " + std::string(9000, 'a') + "\r\n\r\n";
  CHECK(decode(trailer, 1000, SIZE_MAX, limits).outcome == ChunkedDecoder::Outcome::invalid);
}
