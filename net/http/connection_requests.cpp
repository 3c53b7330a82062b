// What a connection does without waiting. Pipelined requests are answered within one advance, their answers gathered in
// one buffer that is sent when the input is used up or enough is pending.
#include <algorithm>
#include <utility>

#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/station.h"

namespace evlua::http {

namespace {

constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

}  // namespace

Connection::Next Connection::advance() noexcept {
  while (true) {
    Next step = Next::again;
    switch (phase_) {
      case Phase::head: step = error_.code == 0 ? read_head() : close_now(); break;
      case Phase::rest: step = error_.code == 0 ? answer(exchange_->head_bytes_.view()) : close_now(); break;
      case Phase::handler: {
        const std::uint8_t bits = std::exchange(bits_, std::uint8_t{0});
        if ((bits & Exchange::kInput) != 0) begin_feed();
        if ((bits & Exchange::kDone) != 0) {
          phase_ = Phase::answered;
        } else {
          take_pending();
          if (output_.empty()) station_.give_back(output_);  // the handler may take its time
          step = Next::handler;
        }
        break;
      }
      case Phase::answered: step = feed_ended() ? end_exchange() : Next::handler; break;
      case Phase::drain: step = error_.code == 0 ? skip_body() : close_now(); break;
      case Phase::closing: step = Next::close; break;
    }
    if (step != Next::again) return step;
  }
}

Connection::Next Connection::read_head() noexcept {
  if (input_.empty()) return Next::receive;
  const Limits& limits = station_.limits();
  if (exchange_ == nullptr) {
    exchange_ = station_.take_exchange();
    exchange_->begin(*this, limits);
  }
  Bytes& stored = exchange_->head_bytes_;
  const std::size_t before = stored.size();
  if (before != 0) stored.append(input_);
  const std::string_view so_far = before != 0 ? stored.view() : input_;
  if (!served_ && so_far[0] == 'P' && begins_http2(so_far)) {
    if (before == 0) stored.append(input_);
    input_ = {};
    if (so_far.size() >= kHttp2Preface.size()) return Next::http2;
    begin_head();
    return Next::receive;
  }
  RequestParser& parser = exchange_->parser_;
  switch (parser.parse(so_far, limits)) {
    case RequestParser::Outcome::refused: return refuse(parser.refusal(), so_far);
    case RequestParser::Outcome::incomplete:
      if (before == 0) stored.append(input_);
      input_ = {};
      lease_.reset();
      begin_head();
      return Next::receive;
    case RequestParser::Outcome::complete: break;
  }
  input_.remove_prefix(parser.head_bytes() - before);
  if (before != 0) stored.truncate(parser.head_bytes());
  const std::string_view head = so_far.substr(0, parser.head_bytes());
  // Nobody has proved here whose origin that would be (RFC 9110 7.4), unless it was to a proxy of ours.
  if (parser.asks_for_https() && secure_ == nullptr && !peer_is_trusted()) return refuse(421, so_far);
  if (!ahead_ || secure_ != nullptr || has_whole_body(parser)) return answer(head);
  // The rest of the body may be received on another worker.
  if (before == 0) stored.append(head);
  phase_ = Phase::rest;
  return Next::rest;
}

/// With prior knowledge a client begins with a request that is none (RFC 9113, 3.4). "PR" may become PROPFIND still.
bool Connection::begins_http2(std::string_view so_far) const noexcept {
  if (!station_.limits().http2) return false;
  if (secure_ != nullptr && secure_->engine.session().has_alpn) return false;  // HTTP/1.1 was agreed on
  const std::string_view part = so_far.substr(0, kHttp2Preface.size());
  return part.size() > 2 && kHttp2Preface.starts_with(part);
}

void Connection::begin_head() noexcept {
  if (head_deadline_ != kNever) return;
  head_deadline_ = deadline_after(station_.worker().now(), station_.limits().header_timeout);
}

bool Connection::has_whole_body(const RequestParser& parser) const noexcept {
  switch (parser.body_kind()) {
    case BodyKind::none: return true;
    case BodyKind::length: return parser.content_length() <= input_.size();
    case BodyKind::chunked:
    case BodyKind::stream: return false;
  }
  return false;
}

Connection::Next Connection::answer(std::string_view head) noexcept {
  head_deadline_ = kNever;
  station_.take_buffer(output_);
  exchange_->start(head, station_.next_id(), ++requests_ != station_.limits().requests_per_connection);
  phase_ = exchange_->be_handled_by(station_.handler()) ? Phase::answered : Phase::handler;
  if (phase_ == Phase::handler && station_.limits().handler_timeout != kNever) {
    handler_deadline_ = deadline_after(station_.worker().now(), station_.limits().handler_timeout);
  }
  if (phase_ == Phase::handler && station_.observed()) {
    examine_at_ = deadline_after(exchange_->began_, station_.limits().slow_after);
  }
  return Next::again;
}

Connection::Next Connection::refuse(int status, std::string_view came) noexcept {
  station_.take_buffer(output_);
  exchange_->start({}, station_.next_id(), false);
  exchange_->fail(status);
  tell_end(came.substr(0, came.find_first_of("\r\n")), true);
  linger_ = true;
  return close_now();
}

Connection::Next Connection::close_now() noexcept {
  phase_ = Phase::closing;
  if (error_.code != 0) linger_ = false;
  return Next::close;
}

void Connection::tell_end(std::string_view refused_line, bool refused) noexcept {
  if (!station_.observed()) return;
  ExchangeEnd end;
  end.refused = refused;
  end.refused_line = refused_line;
  end.aborted = error_.code != 0 || exchange_->cut_;
  station_.exchange_ended(*exchange_, end);
}

/// Moves what the handler's side has written to where it is sent from, and tells it how things stand.
void Connection::take_pending() noexcept {
  Exchange& exchange = *exchange_;
  exchange.lock_.lock();
  if (error_.code != 0) {
    exchange.error_ = error_;
    exchange.pending_.clear();
  } else if (output_.empty()) {
    output_.swap(exchange.pending_);
  }
  exchange.sending_ = !output_.empty();
  const bool wake = std::exchange(exchange.waiting_, false);
  exchange.lock_.unlock();
  if (wake) exchange.drained_.set();
}

Connection::Next Connection::end_exchange() noexcept {
  Exchange& exchange = *exchange_;
  served_ = true;
  refused_ = exchange.refused_for_now_;
  handler_deadline_ = examine_at_ = kNever;
  if (exchange.deferred_) {
    if (output_.empty()) {
      output_.swap(exchange.pending_);
    } else {
      output_.append(exchange.pending_.view());
    }
  } else if (!exchange.finished_) {
    static_cast<void>(exchange.finish());
  }
  if (exchange.attached_ != nullptr && error_.code == 0) return Next::file;
  station_.counters().bytes_in.add(exchange.received_bytes_);
  tell_end({}, false);
  if (error_.code != 0) return close_now();
  if (!exchange.keep_alive_) {
    // Unless the client announced that it sends no more, it may be sending. Where the end of the connection ends the
    // body, a reset by what came late would make a whole answer half of one.
    linger_ = exchange.parser_.keep_alive() || !exchange.body_ended_ || !input_.empty() ||
              exchange.framing_ == Framing::close;
    // Whoever reads to the end of the connection must not take half an answer for a whole one.
    reset_ = exchange.cut_ && exchange.framing_ == Framing::close;
    if (exchange.cut_) linger_ = false;
    return close_now();
  }
  if (exchange.body_ended_) return next_request();
  skipped_bytes_ = 0;
  phase_ = Phase::drain;
  return Next::again;
}

Connection::Next Connection::skip_body() noexcept {
  Result<std::string_view> piece;
  while (exchange_->next_piece(SIZE_MAX, piece)) {
    if (piece && piece->empty()) return next_request();
    if (piece) skipped_bytes_ += static_cast<std::uint32_t>(piece->size());
    if (!piece || skipped_bytes_ > station_.limits().drain_bytes) {
      linger_ = true;
      return close_now();
    }
  }
  return Next::receive;
}

Connection::Next Connection::next_request() noexcept {
  exchange_->reset();
  phase_ = Phase::head;
  came_ = station_.worker().backend().now();  // what was pipelined has waited for its client's own requests
  release_consumed_input();
  if (refused_ && !input_.empty()) return Next::pause;
  return output_.size() >= station_.limits().output_bytes ? Next::send : Next::again;
}

void Connection::handler_spoke(Runnable& node) noexcept {
  Exchange& exchange = *static_cast<Exchange::Node&>(node).exchange;
  Connection& connection = *exchange.connection_;
  connection.bits_ |= exchange.take_bits();
  if (connection.parked_) std::exchange(connection.parked_, nullptr).resume();
}

}  // namespace evlua::http
