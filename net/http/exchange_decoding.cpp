// The handler's side of an exchange: bodies with a Content-Encoding.
//
// A decompressor is made when the first read finds that there is something to decode. Between two reads it has taken
// what `input` does not show any more, so that memory is bounded by one piece, whatever the body expands to.
#include <algorithm>
#include <cerrno>

#include "core/check.h"
#include "net/http/exchange.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::size_t kEncodedBytes = 16 * 1024;  // what is taken of the input at once, and kept by defer()
constexpr std::size_t kPieceBytes = 64 * 1024;

}  // namespace

bool Exchange::decode_body(bool wanted) noexcept {
  if (body_form_ != BodyForm::undecided) return false;
  decode_wanted_ = wanted;
  return true;
}

Exchange::BodyForm Exchange::body_form() noexcept {
  if (body_form_ != BodyForm::undecided) return body_form_;
  ContentCoding coding = ContentCoding::identity;
  if (has_body() && decode_wanted_) {
    for_each_header([&coding](const HeaderField& field) {
      if (equal_ignoring_case(field.name, "content-encoding")) coding = add_content_coding(coding, field.value);
    });
  }
  switch (coding) {
    case ContentCoding::identity: body_form_ = BodyForm::plain; break;
    case ContentCoding::unknown: body_form_ = BodyForm::unreadable; break;
    default: begin_decoding(coding); break;
  }
  return body_form_;
}

void Exchange::begin_decoding(ContentCoding coding) noexcept {
  body_form_ = BodyForm::encoded;
  decoding_ = std::make_unique<Decoding>();
  decoding_->decompressor = Decompressor::make(coding);
  if (decoding_->decompressor == nullptr) decoding_->failure = Error{ENOMEM, ErrorDomain::system, OpCode::protocol};
}

/// As next_piece, decoded.
bool Exchange::next_decoded(std::size_t max, Result<std::string_view>& out) noexcept {
  Decoding& decoding = *decoding_;
  out = std::string_view();
  const std::size_t room = std::min(max, kPieceBytes);
  while (decoding.failure.code == 0 && !decoding.ended) {
    if (decoding.input.empty() && !decoding.full) {
      Result<std::string_view> piece;
      if (!next_piece(kEncodedBytes, piece)) return false;
      if (!piece || piece->empty()) {
        out = piece ? end_decoding() : piece;
        return true;
      }
      decoding.input = *piece;
      decoding.received += piece->size();
    }
    decoding.piece.clear();
    char* const to = decoding.piece.reserve(room);
    const std::optional<std::size_t> written = decoding.decompressor->run(decoding.input, {to, room});
    if (!written) {
      decoding.failure = Error{EPROTO, ErrorDomain::system, OpCode::protocol};
      break;
    }
    decoding.full = *written == room;
    decoding.expanded += *written;
    const std::uint64_t most =
        std::max<std::uint64_t>(limits_->buffered_body_bytes, decoding.received * limits_->expansion_ratio);
    if (decoding.expanded > most) {
      decoding.failure = Error{static_cast<int>(Errc::too_large), ErrorDomain::runtime, OpCode::recv};
      break;
    }
    if (*written != 0) {
      decoding.piece.commit(*written);
      out = decoding.piece.view();
      return true;
    }
  }
  if (decoding.failure.code != 0) out = evlua::fail(decoding.failure);
  return true;
}

/// The body as it was sent has ended. One without a byte stands for an empty one, as it does with a length of 0.
Result<std::string_view> Exchange::end_decoding() noexcept {
  Decoding& decoding = *decoding_;
  if (decoding.received != 0 && !decoding.decompressor->complete()) {
    decoding.failure = Error{EPROTO, ErrorDomain::system, OpCode::protocol};
    return evlua::fail(decoding.failure);
  }
  decoding.ended = true;
  decoding.decompressor.reset();
  return std::string_view();
}

/// What was taken of the receive buffer would go with it.
void Exchange::keep_undecoded() noexcept {
  Decoding& decoding = *decoding_;
  if (decoding.input.empty()) return;
  decoding.input_bytes.clear();
  decoding.input_bytes.append(decoding.input);
  decoding.input = decoding.input_bytes.view();
}

bool Exchange::body_read() const noexcept {
  return body_ended_ && !body_failed() && (decoding_ == nullptr || decoding_->ended);
}

int Exchange::body_refusal() const noexcept {
  if (body_form_ == BodyForm::unreadable) return 415;
  const Error failure = decoding_ != nullptr ? decoding_->failure : Error();
  if (failure.is(EPROTO)) return 400;
  if (failure.is(Errc::too_large)) return 413;
  return body_refusal_;
}

}  // namespace evlua::http
