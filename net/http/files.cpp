#include "net/http/files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>
#include <vector>

#include "core/blocking.h"
#include "core/io_await.h"
#include "net/http/conditions.h"
#include "net/http/dates.h"
#include "net/http/media_types.h"
#include "net/http/ranges.h"
#include "net/http/trace_context.h"

namespace evlua::http {

namespace {

constexpr std::size_t kSmall = 64 * 1024;                 // goes through our buffers, together with its head
constexpr std::uint64_t kEncodedMost = 16 * 1024 * 1024;  // a request of a few bytes must not cost seconds

/// Changes with every change of the file, as far as the file system can tell.
std::string etag_of(const OpenFile& file, std::string_view coding) {
  std::array<char, 64> text;
  char* end = text.data();
  *end++ = '"';
  for (const std::uint64_t number :
       {file.size, static_cast<std::uint64_t>(file.modified), static_cast<std::uint64_t>(file.nanoseconds)}) {
    end = std::to_chars(end, text.data() + text.size(), number, 16).ptr;
    *end++ = '-';
  }
  std::string etag(text.data(), end - 1);
  if (!coding.empty()) etag.append("-").append(coding);
  return etag += '"';
}

void set(Exchange& exchange, std::string_view name, std::string_view value) {
  static_cast<void>(exchange.set_header(name, value));
}

std::string content_range(const ByteRange& range, std::uint64_t size) {
  return "bytes " + std::to_string(range.first) + "-" + std::to_string(range.first + range.size - 1) + "/" +
         std::to_string(size);
}

/// multipart/byteranges (RFC 9110, 14.6)
void divide(Exchange& exchange, FileBody& body, const std::vector<ByteRange>& ranges) {
  const std::string_view type = exchange.response_header("Content-Type").value_or(std::string_view());
  const std::string boundary = "evlua-" + TraceContext::span_text(random_id());
  for (const ByteRange& range : ranges) {
    std::string head = body.parts.empty() ? "--" : "\r\n--";
    head += boundary + "\r\n";
    if (!type.empty()) head += "Content-Type: " + std::string(type) + "\r\n";
    head += "Content-Range: " + content_range(range, body.file.size) + "\r\n\r\n";
    body.parts.push_back({std::move(head), range.first, range.size});
  }
  body.tail = "\r\n--" + boundary + "--\r\n";
  set(exchange, "Content-Type", "multipart/byteranges; boundary=" + boundary);
}

/// All of it is to be sent, and compressed on the way.
bool is_encoded(const Exchange& exchange, std::uint64_t size) {
  return size <= kEncodedMost && !exchange.has_header("Content-Length") &&
         exchange.would_be_encoded(static_cast<std::size_t>(size));
}

/// A client with other wishes would get something else.
bool may_vary(const Exchange& exchange, std::uint64_t size) {
  if (size <= kSmall) {
    return !exchange.has_header("Content-Length") && exchange.varies_by_coding(static_cast<std::size_t>(size));
  }
  const auto type = exchange.response_header("Content-Type");
  return exchange.limits().compression_level != 0 && size <= kEncodedMost && type && is_compressible(*type) &&
         !exchange.has_header("Content-Encoding");
}

/// Together with its head, as if it were no file. Where memory may be held for long it goes out in pieces, as large
/// ones.
bool is_sent_whole(Exchange& exchange, const FileBody& body) {
  const std::uint64_t size = body.size();
  return size <= kSmall && !exchange.is_sent_as_taken(static_cast<std::size_t>(size));
}

/// False: the response is an error without a body.
bool choose_parts(Exchange& exchange, FileBody& body, const Validators& validators) {
  const std::uint64_t size = body.file.size;
  const auto field = exchange.method() == "GET" ? exchange.header("range") : std::nullopt;
  Ranges wanted;
  const bool encoded = is_encoded(exchange, size);
  if (field && range_applies(exchange, validators, encoded)) wanted = parse_ranges(*field, size);
  switch (wanted.outcome) {
    case Ranges::Outcome::whole: body.take_whole(); return true;
    case Ranges::Outcome::none:
      static_cast<void>(exchange.set_status(416));
      set(exchange, "Content-Range", "bytes */" + std::to_string(size));
      return false;
    case Ranges::Outcome::some: break;
  }
  static_cast<void>(exchange.set_status(206));
  if (wanted.ranges.size() > 1) {
    divide(exchange, body, wanted.ranges);
  } else {
    set(exchange, "Content-Range", content_range(wanted.ranges[0], size));
    body.parts.push_back({{}, wanted.ranges[0].first, wanted.ranges[0].size});
  }
  return true;
}

/// From memory, all of it or nothing.
bool read_all_cached(const FileBody& body, Bytes& to) noexcept {
  for (const FileBody::Part& part : body.parts) {
    to.append(part.head);
    char* place = to.reserve(part.size);
    const Result<std::size_t> got = read_cached(body.file.fd, place, part.size, part.offset);
    if (!got || *got != part.size) return false;
    to.commit(part.size);
  }
  to.append(body.tail);
  return true;
}

/// From memory, into the thread's own buffer: good until anything else runs.
Result<std::string_view> read_piece_cached(int fd, std::uint64_t offset, std::size_t most) noexcept {
  static thread_local Bytes piece;
  piece.clear();
  const Result<std::size_t> got = read_cached(fd, piece.reserve(most), most, offset);
  if (!got) return fail(got.error());
  return std::string_view(piece.data(), *got);
}

/// One part of a body through our own buffers, behind the head. Who waits for its client holds none of them.
Task<Result<void>> write_part(Exchange& exchange, int fd, FileBody::Part part) {
  while (part.size > 0) {
    const Result<std::size_t> room = co_await exchange.room();
    if (!room) co_return fail(room.error());
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(part.size, *room));
    std::vector<char> from_disk;
    Result<std::string_view> piece = read_piece_cached(fd, part.offset, most);
    if (!piece && piece.error().is(EAGAIN)) {
      from_disk.resize(most);
      const Result<std::int32_t> waited = co_await io::read(fd, from_disk.data(), static_cast<std::uint32_t>(most),
                                                            static_cast<std::int64_t>(part.offset));
      if (!waited) co_return fail(waited.error());
      piece = std::string_view(from_disk.data(), static_cast<std::size_t>(*waited));
    }
    if (!piece) co_return fail(piece.error());
    if (piece->empty()) co_return fail(Errc::end_of_file, OpCode::read);  // it has become shorter
    part.offset += piece->size();
    part.size -= piece->size();
    const Result<void> written = co_await exchange.write_on(*piece);
    if (!written) co_return written;
  }
  co_return Result<void>();
}

/// From a disk, all of it, and then as if it had been in memory: compressed if it is to be.
Task<Result<void>> send_small(Exchange& exchange, const FileBody& body) {
  Bytes content;
  Result<void> outcome;
  for (const FileBody::Part& part : body.parts) {
    content.append(part.head);
    for (std::uint64_t done = 0; done < part.size && outcome;) {
      const auto left = static_cast<std::uint32_t>(part.size - done);
      char* const to = content.reserve(left);
      const Result<std::int32_t> got =
          co_await io::read(body.file.fd, to, left, static_cast<std::int64_t>(part.offset + done));
      if (!got) {
        outcome = fail(got.error());
      } else if (*got == 0) {
        outcome = fail(Errc::end_of_file, OpCode::read);  // it has become shorter
      } else {
        content.commit(static_cast<std::size_t>(*got));
        done += static_cast<std::uint64_t>(*got);
      }
    }
  }
  content.append(body.tail);
  if (outcome) co_return exchange.send(content.view());
  exchange.fail(500);
  co_return outcome;
}

/// Compressed, in chunks: that there are too few of them does not show, so the client has to be told.
Task<Result<void>> send_encoded(Exchange& exchange, FileBody& body) {
  const std::string_view nothing;  // the head alone
  Result<void> sent = co_await exchange.write(nothing);
  if (!exchange.is_head() && sent) sent = co_await write_part(exchange, body.file.fd, body.parts[0]);
  if (sent) co_return exchange.finish();
  exchange.fail(500);
  co_return sent;
}

}  // namespace

std::unique_ptr<FileBody> begin_file(Exchange& exchange, OpenFile file, const FileOptions& options) {
  auto body = std::make_unique<FileBody>();
  body->file = std::move(file);
  static_cast<void>(exchange.remove_header("Content-Length"));  // the file knows better, also for HEAD
  if (!options.cache_control.empty()) set(exchange, "Cache-Control", options.cache_control);
  if (!options.content_encoding.empty()) set(exchange, "Content-Encoding", options.content_encoding);
  if (!options.disposition.empty()) set(exchange, "Content-Disposition", options.disposition);
  if (!exchange.has_header("Content-Type")) set(exchange, "Content-Type", options.media_type);
  if (exchange.status() != 200 || (exchange.method() != "GET" && !exchange.is_head())) {
    body->take_whole();
    return body;
  }
  const std::string etag = etag_of(body->file, options.content_encoding);
  const std::uint64_t size = body->file.size;
  const Validators validators{etag, body->file.modified, is_encoded(exchange, size), may_vary(exchange, size)};
  set(exchange, "Last-Modified", format_date(body->file.modified));
  set(exchange, "ETag", etag);
  set(exchange, "Accept-Ranges", "bytes");
  if (answer_conditions(exchange, validators)) return nullptr;
  if (choose_parts(exchange, *body, validators)) return body;
  end_without_body(exchange, 416);
  return nullptr;
}

bool try_send_file(Exchange& exchange, std::unique_ptr<FileBody>& body) {
  const std::uint64_t size = body->size();
  static thread_local Bytes content;
  content.clear();
  if (is_sent_whole(exchange, *body)) {
    if (!read_all_cached(*body, content)) return false;
    body.reset();
    static_cast<void>(exchange.send(content.view()));
    return true;
  }
  if (may_vary(exchange, size)) exchange.vary_by_coding();
  if (is_encoded(exchange, size) && exchange.take_encoder_place()) return false;
  if (exchange.is_head()) {
    set(exchange, "Content-Length", std::to_string(size));
    static_cast<void>(exchange.send({}));
    body.reset();
    return true;
  }
  return exchange.attach(body);
}

Task<Result<void>> send_file(Exchange& exchange, std::unique_ptr<FileBody> body) {
  if (try_send_file(exchange, body)) co_return Result<void>();
  if (is_sent_whole(exchange, *body)) {
    const Result<void> sent = co_await send_small(exchange, *body);
    co_return sent;
  }
  if (is_encoded(exchange, body->size()) && exchange.take_encoder_place()) {
    const Result<void> encoded = co_await send_encoded(exchange, *body);
    co_return encoded;
  }
  const Result<void> promised = exchange.set_header("Content-Length", std::to_string(body->size()));
  if (!promised) co_return promised;
  const std::string_view nothing;  // the head alone
  const Result<void> begun = co_await exchange.write(nothing);
  if (!begun) co_return begun;
  for (const FileBody::Part& part : body->parts) {
    Result<void> sent;
    if (!part.head.empty()) sent = co_await exchange.write(part.head);
    if (sent) sent = co_await write_part(exchange, body->file.fd, part);
    if (!sent) co_return sent;
  }
  if (!body->tail.empty()) {
    const Result<void> sent = co_await exchange.write(body->tail);
    if (!sent) co_return sent;
  }
  co_return exchange.finish();
}

namespace {

Result<OpenFile> open_below(const std::optional<std::string>& root, const std::string& path, bool may_wait) noexcept {
  if (!root) return open_file(AT_FDCWD, path.c_str(), may_wait);
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  if (!may_wait) how.resolve = RESOLVE_CACHED;
  const int folder = static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, root->c_str(), &how, sizeof how));
  if (folder < 0) return fail(errno, OpCode::open);
  Result<OpenFile> opened = open_file(folder, path.c_str(), may_wait);
  ::close(folder);
  return opened;
}

}  // namespace

Task<Result<void>> serve_path(Exchange& exchange, std::optional<std::string> root, std::string path, FileTexts texts,
                              BlockingPool& pool) {
  exchange.defer();
  Result<OpenFile> file = open_below(root, path, false);
  if (!file && file.error().is(EAGAIN)) {
    auto opening = blocking(pool, [&] { return open_below(root, path, true); });
    std::optional<Result<OpenFile>> opened = co_await opening;
    if (!opened) co_return fail(ECANCELED, OpCode::open);
    file = std::move(*opened);
  }
  if (!file) co_return fail(file.error());
  const std::string_view type = texts.media_type.empty() ? media_type_of(path) : std::string_view(texts.media_type);
  const FileOptions options{type, {}, texts.cache_control, texts.disposition};
  std::unique_ptr<FileBody> body = begin_file(exchange, std::move(*file), options);
  if (body == nullptr) co_return Result<void>();
  const Result<void> sent = co_await send_file(exchange, std::move(body));
  co_return sent;
}

}  // namespace evlua::http
