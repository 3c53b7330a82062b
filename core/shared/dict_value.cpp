// The values of a Dict.
#include "core/check.h"
#include "core/shared/dict.h"

namespace evlua {

Dict::Value Dict::Value::of(bool value) noexcept {
  Value made;
  made.kind = Kind::boolean;
  made.boolean = value;
  return made;
}

Dict::Value Dict::Value::of(std::int64_t value) noexcept {
  Value made;
  made.kind = Kind::integer;
  made.integer = value;
  return made;
}

Dict::Value Dict::Value::of(double value) noexcept {
  Value made;
  made.kind = Kind::number;
  made.number = value;
  return made;
}

Dict::Value Dict::Value::of(std::string_view value) noexcept {
  Value made;
  made.kind = Kind::string;
  made.string = value;
  return made;
}

bool Dict::Value::operator==(const Value& other) const noexcept {
  if (kind != other.kind) {
    if (kind == Kind::integer && other.kind == Kind::number) return static_cast<double>(integer) == other.number;
    if (kind == Kind::number && other.kind == Kind::integer) return other == *this;
    return false;
  }
  switch (kind) {
    case Kind::nil: return true;
    case Kind::boolean: return boolean == other.boolean;
    case Kind::integer: return integer == other.integer;
    case Kind::number: return number == other.number;
    case Kind::string: return string == other.string;
  }
  EVLUA_UNREACHABLE();
}

}  // namespace evlua
