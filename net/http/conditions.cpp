#include "net/http/conditions.h"

#include <algorithm>

#include "net/http/dates.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

bool is_weak(std::string_view etag) noexcept { return etag.starts_with("W/"); }
std::string_view opaque(std::string_view etag) noexcept { return is_weak(etag) ? etag.substr(2) : etag; }

bool equal(std::string_view left, std::string_view right, bool strongly) noexcept {
  if (strongly && (is_weak(left) || is_weak(right))) return false;
  return opaque(left) == opaque(right);
}

/// Takes the next entity tag from a list; empty when there is none, or none that is one.
std::string_view next_tag(std::string_view& list) noexcept {
  while (!list.empty() && (is_blank(list[0]) || list[0] == ',')) list.remove_prefix(1);
  const std::size_t quote = is_weak(list) ? 2 : 0;
  if (list.size() <= quote || list[quote] != '"') return list = {};
  const std::size_t end = list.find('"', quote + 1);
  if (end == std::string_view::npos) return list = {};
  const std::string_view tag = list.substr(0, end + 1);
  list.remove_prefix(end + 1);
  return tag;
}

bool names(std::string_view list, std::string_view etag, bool strongly) noexcept {
  if (trim(list) == "*") return true;
  for (std::string_view tag = next_tag(list); !tag.empty(); tag = next_tag(list)) {
    if (!etag.empty() && equal(tag, etag, strongly)) return true;
  }
  return false;
}

std::optional<std::int64_t> date_of(std::optional<std::string_view> field) noexcept {
  return field ? parse_date(*field) : std::nullopt;
}

/// Says what the answer with the body would have said (RFC 9110, 15.4.5).
void speak_of_body(Exchange& exchange, const Validators& validators) {
  if (validators.varies || validators.encoded) exchange.vary_by_coding();
  if (!validators.encoded || is_weak(validators.etag)) return;
  const std::string weak = "W/" + std::string(validators.etag);
  static_cast<void>(exchange.set_header("ETag", weak));
}

}  // namespace

Condition check_conditions(const ConditionFields& fields, const Validators& validators) noexcept {
  const std::optional<std::int64_t> modified = validators.last_modified;
  if (fields.if_match) {
    if (!names(*fields.if_match, validators.etag, true)) return Condition::failed;
  } else if (const auto since = date_of(fields.if_unmodified_since); since && modified) {
    if (*modified > *since) return Condition::failed;
  }
  if (fields.if_none_match) {
    if (!names(*fields.if_none_match, validators.etag, false)) return Condition::met;
    return fields.reads ? Condition::not_modified : Condition::failed;
  }
  const auto since = fields.reads ? date_of(fields.if_modified_since) : std::nullopt;
  return since && modified && *modified <= *since ? Condition::not_modified : Condition::met;
}

Condition check_conditions(const Exchange& exchange, const Validators& validators) {
  std::string room;
  std::string more_room;
  ConditionFields fields;
  fields.if_match = exchange.header_list("if-match", room);
  fields.if_none_match = exchange.header_list("if-none-match", more_room);
  fields.if_modified_since = exchange.header("if-modified-since");
  fields.if_unmodified_since = exchange.header("if-unmodified-since");
  fields.reads = exchange.method() == "GET" || exchange.is_head();
  return check_conditions(fields, validators);
}

void end_without_body(Exchange& exchange, int status) {
  static_cast<void>(exchange.set_status(status));
  for (const char* of_a_body : {"Content-Type", "Content-Encoding", "Content-Disposition", "Cache-Control"}) {
    if (status != 304) static_cast<void>(exchange.remove_header(of_a_body));
  }
  static_cast<void>(exchange.send({}));
}

bool answer_conditions(Exchange& exchange, const Validators& validators) {
  const Condition condition = check_conditions(exchange, validators);
  if (condition == Condition::met) return false;
  speak_of_body(exchange, validators);
  end_without_body(exchange, condition == Condition::failed ? 412 : 304);
  return true;
}

bool range_applies(std::optional<std::string_view> if_range, const Validators& validators, bool encoded) noexcept {
  if (!if_range) return true;
  if (if_range->ends_with('"')) return !validators.etag.empty() && equal(*if_range, validators.etag, true);
  if (encoded) return false;  // the date is that of other bytes
  const auto date = parse_date(*if_range);
  return date && validators.last_modified == date;
}

bool range_applies(const Exchange& exchange, const Validators& validators, bool encoded) noexcept {
  return range_applies(exchange.header("if-range"), validators, encoded);
}

}  // namespace evlua::http
